"""Videos to shards: `python -m data_prep --help`."""

"""Make shards from a dataset folder: decide what goes where, encode it, write it so that it can be interrupted."""

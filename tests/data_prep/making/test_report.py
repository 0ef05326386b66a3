"""The report accounts for every input."""

import json

from data_prep.making.shards import make_shards


def test_the_report_file_agrees_with_the_dataset(options):
    chosen = options()
    make_shards(chosen)
    report = json.loads((chosen.output / "report.json").read_text())
    assert report["counts"] == {"input": 6, "matched": 6, "unmatched": 0, "used": 6, "skipped": 0}
    assert report["samples"] == {"train": 5, "val": 1}

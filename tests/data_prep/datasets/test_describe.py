"""`data_prep info` says what a dataset is."""

import json

import pytest

from cosmos_nemo.data.manifest import read_manifest
from tests.data.shards import write_dataset
from tests.data_prep.datasets.cases import SHARDS, run


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "set", SHARDS)


def test_info_says_what_a_dataset_is(dataset):
    lines = run("info", dataset).output.splitlines()
    assert "samples          5 train, 1 val" in lines
    assert "latent shape     16 x 2 x 4 x 6" in lines
    facts = json.loads(run("info", dataset, "--json", "--buckets").output)
    assert (facts["task"], facts["bytes"]) == (
        "video2world",
        sum(shard.bytes for shard in read_manifest(dataset).shards),
    )
    assert facts["buckets"] == {"unknown": 6}
    assert facts["video_tokenizer"]["here"] is False

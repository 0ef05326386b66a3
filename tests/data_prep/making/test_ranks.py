"""Ranks share the work and give the bytes of one process."""

from data_prep.making.options import options_for
from data_prep.making.shards import make_shards
from tests.data_prep.conftest import contents
from tests.distributed import run_ranks


def prepare_on_rank(options):
    """Runs on each rank of `run_ranks`."""
    report = make_shards(options)
    return report.samples


def test_ranks_give_the_bytes_of_one_process(clips, tmp_path):
    choices = {"input": clips, "num_frames": 5, "samples_per_shard": 2, "mp4": "encode"}
    one, ranks = (options_for("tokenizer", None, output=tmp_path / name, **choices) for name in ("one", "ranks"))
    report = make_shards(one)
    assert run_ranks("tests.data_prep.making.test_ranks:prepare_on_rank", 2, ranks) == [report.samples] * 2
    assert contents(ranks.output) == contents(one.output)

"""A new split holds out whole videos and loses nothing."""

from itertools import islice

import pytest

from cosmos_nemo.errors import UserError
from data_prep.datasets.split import split_again
from data_prep.datasets.verify import verify
from tests.data.shards import train_loader
from tests.data_prep.conftest import contents, samples_in
from tests.data_prep.datasets.cases import bytes_of, write_set


def test_a_new_split_holds_out_whole_videos_and_loses_nothing(tmp_path):
    a = write_set(tmp_path, "a", num_train=14, num_val=2)
    manifest = split_again(a, tmp_path / "b", val=0.25, seed=3, samples_per_shard=5)
    assert (manifest.num_samples("train"), manifest.num_samples("val")) == (12, 4)
    assert [shard.samples for shard in manifest.shards] == [5, 5, 2, 4]
    assert bytes_of(tmp_path / "b") == bytes_of(a)
    assert list(verify(tmp_path / "b")) == []
    train = {key for batch in islice(iter(train_loader(tmp_path / "b", text_length=4)), 12) for key in batch.keys}
    videos = {sample.info.source for key, sample in samples_in(a).items() if key in train}
    held_out = {sample.info.source for key, sample in samples_in(a).items() if key not in train}
    assert (len(videos), len(held_out), videos & held_out) == (6, 2, set())


def test_a_new_split_is_decided_by_its_seed(tmp_path):
    a = write_set(tmp_path, "a", num_train=14)
    for name, seed in (("b", 1), ("c", 1), ("d", 2)):
        split_again(a, tmp_path / name, val=0.25, seed=seed, samples_per_shard=32)
    assert contents(tmp_path / "b") == contents(tmp_path / "c")
    assert contents(tmp_path / "b") != contents(tmp_path / "d")


@pytest.mark.parametrize(
    ("val", "size", "message"), [(1.0, 4, "below 1"), (-0.1, 4, "at least 0"), (0.1, 0, "least 1")]
)
def test_a_split_that_makes_no_sense_is_refused(tmp_path, val, size, message):
    with pytest.raises(UserError, match=message):
        split_again(write_set(tmp_path, "a"), tmp_path / "b", val=val, seed=0, samples_per_shard=size)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["a"]

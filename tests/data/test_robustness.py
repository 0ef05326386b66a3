"""Energon's own readers on real shards: several workers and ranks, resuming anywhere, and damage of every kind."""

import tarfile
from collections import Counter
from itertools import islice

import pytest

from cosmos_nemo.data.encoders import SkippedSamples
from cosmos_nemo.data.reading_errors import plain_error
from cosmos_nemo.errors import UserError
from cosmos_nemo.lightning.stream import TimedStream
from tests.data.shards import make_sample, train_loader, write_dataset

SHARDS = {f"train-{s:06d}.tar": [make_sample(f"s{s}_{i}") for i in range(4)] for s in range(4)}
KEYS = sorted(sample.key for samples in SHARDS.values() for sample in samples)
BROKEN = ("s0_1", "s2_0", "s2_1")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "set", SHARDS)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    def damage(sample, parts):
        return parts | {"text.safetensors": b"?"} if sample.key in BROKEN else parts

    return write_dataset(tmp_path_factory.mktemp("data") / "set", SHARDS, change=damage)


def loader_of(path, **options):
    return train_loader(path, text_length=4, **options)


def take(stream, count):
    return [key for batch in islice(stream, count) for key in batch.keys]


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_an_epoch_is_every_sample_once_whatever_the_ranks(dataset, ranks):
    for seed in (0, 1):
        parts = [take(iter(loader_of(dataset, dp_rank=r, dp_size=ranks, seed=seed)), 16 // ranks) for r in range(ranks)]
        assert sorted(key for part in parts for key in part) == KEYS


def test_a_shuffle_buffer_mixes_more_and_loses_nothing(dataset):
    stream = iter(loader_of(dataset, shuffle_buffer_size=5))
    keys = take(stream, 160)
    assert Counter(keys).keys() == set(KEYS)
    assert max(Counter(keys).values()) - min(Counter(keys).values()) <= 2
    assert keys[:16] != take(iter(loader_of(dataset)), 16)


@pytest.mark.parametrize("buffer", [None, 5])
@pytest.mark.parametrize("steps", [0, 1, 7, 16, 21])
def test_each_rank_goes_on_where_it_was_saved(damaged, buffer, steps):
    """In the middle of an epoch, at its end, before the first sample; with samples that cannot be read."""
    for rank in range(2):
        place = {"dp_rank": rank, "dp_size": 2, "shuffle_buffer_size": buffer}
        loader = loader_of(damaged, **place)
        stream = iter(loader)
        take(stream, steps)
        state = loader.save_state_rank()
        expected = take(stream, 20)
        restored = loader_of(damaged, **place)
        restored.restore_state_rank(state)
        assert take(iter(restored), 20) == expected


def test_delivered_and_skipped_samples_add_up_to_the_input(damaged):
    skipped = SkippedSamples()
    stream = iter(loader_of(damaged, skipped=skipped))
    keys = take(stream, 3 * (16 - len(BROKEN)))
    assert Counter(keys) == {key: 3 for key in KEYS if key not in BROKEN}
    # The third epoch may end with samples that have not been asked for.
    assert 2 * len(BROKEN) <= skipped.count <= 3 * len(BROKEN)
    take(stream, 1)
    assert len(keys) + skipped.count >= 3 * 16 - len(BROKEN)


def test_workers_of_ranks_read_everything_and_go_on_where_they_were_saved(damaged):
    """Two processes for each of two ranks; every one has its own position."""
    parts = []
    for rank in range(2):
        place = {"dp_rank": rank, "dp_size": 2, "num_workers": 2}
        loader = TimedStream(loader_of(damaged, **place))
        stream = iter(loader)
        before = take(stream, 5)
        state = loader.loader.save_state_rank()
        expected = take(stream, 15)
        loader.close()
        if rank:
            restored = TimedStream(loader_of(damaged, **place))
            restored.loader.restore_state_rank(state)
            assert take(iter(restored), 15) == expected
            restored.close()
        parts.append(set(before + expected))
    assert parts[0] | parts[1] == set(KEYS) - set(BROKEN)
    assert not parts[0] & parts[1]


def damage_header(folder, key):
    """Overwrite the tar header of a sample: the shard keeps its size, so that only reading tells."""
    shard = next(folder.glob(f"train-00000{key[1]}.tar"))
    with tarfile.open(shard) as tar:
        start = next(member.offset for member in tar if member.name.startswith(f"{key}."))
    content = bytearray(shard.read_bytes())
    content[start : start + 512] = b"\xff" * 512
    shard.write_bytes(content)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_tar_that_is_damaged_between_its_samples_is_named(tmp_path, workers):
    folder = write_dataset(tmp_path / "set", SHARDS)
    damage_header(folder, "s2_1")
    stream = TimedStream(loader_of(folder, num_workers=workers))
    with pytest.raises(UserError, match=r"^shard train-000002.tar is damaged between its samples; [^\n]*--repair`$"):
        take(iter(stream), 32)
    stream.close()


def test_an_error_for_people_is_one_line_also_from_a_worker(tmp_path):
    folder = write_dataset(tmp_path / "set", {"train-000000.tar": [make_sample("big", latent_shape=(16, 3, 4, 6))]})
    stream = TimedStream(loader_of(folder, num_workers=1))
    with pytest.raises(UserError, match=r"^shard train-000000.tar, sample 'big': latent size[^\n]*$"):
        next(iter(stream))
    stream.close()


def test_an_error_of_another_kind_is_left_alone():
    error = ValueError("a bug")
    assert plain_error(error) is error

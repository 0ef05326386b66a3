"""Shards to batches through Energon's own readers."""

from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest
import torch

from cosmos_nemo.data.encoders import SkippedSamples
from cosmos_nemo.data.manifest import MANIFEST_NAME, read_manifest
from cosmos_nemo.errors import UserError
from tests.data.shards import make_sample, train_loader, val_loader, write_dataset

TRAIN = {
    "train-000000.tar": [make_sample(f"a{i}") for i in range(5)],
    "train-000001.tar": [make_sample(f"b{i}") for i in range(4)],
}
VAL = {"val-000000.tar": [make_sample(f"v{i}") for i in range(5)]}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "set", TRAIN | VAL)


def keys_of(loader, count):
    return [key for batch in islice(iter(loader), count) for key in batch.keys]


def test_samples_arrive_as_they_were_written(dataset):
    batch = next(iter(train_loader(dataset, micro_batch_size=3, text_length=16)))
    for row, key in enumerate(batch.keys):
        written = make_sample(key)
        assert torch.equal(batch.latent_B_C_T_H_W[row], written.latent_C_T_H_W.float())
        assert torch.equal(batch.crossattn_emb_B_L_E[row, : len(written.text_L_E)], written.text_L_E.float())
        assert not batch.crossattn_emb_B_L_E[row, len(written.text_L_E) :].any()


def test_every_sample_comes_exactly_once_per_epoch_in_a_new_order(dataset):
    keys = keys_of(train_loader(dataset, micro_batch_size=3, text_length=4), 6)
    first, second = keys[:9], keys[9:]
    assert sorted(first) == sorted(second) == sorted(s.key for samples in TRAIN.values() for s in samples)
    assert first != second


def test_the_seed_decides_the_order(dataset):
    first, again, other = (keys_of(train_loader(dataset, seed=seed, text_length=4), 9) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_restored_stream_goes_on_where_it_was_saved(dataset):
    loader = train_loader(dataset, micro_batch_size=2, text_length=4)
    stream = iter(loader)
    before = [next(stream).keys for _ in range(4)]  # in the middle of the first epoch
    state = loader.save_state_rank()
    expected = [next(stream) for _ in range(8)]
    restored = train_loader(dataset, micro_batch_size=2, text_length=4)
    restored.restore_state_rank(state)
    continued = list(islice(iter(restored), 8))
    assert before
    assert [b.keys for b in continued] == [b.keys for b in expected]
    assert torch.equal(continued[0].latent_B_C_T_H_W, expected[0].latent_B_C_T_H_W)


def test_data_parallel_ranks_share_an_epoch_between_them(dataset):
    parts = [keys_of(train_loader(dataset, dp_rank=rank, dp_size=3, text_length=4), 3) for rank in range(3)]
    assert sorted(key for part in parts for key in part) == sorted(s.key for v in TRAIN.values() for s in v)


def test_validation_is_ordered_ends_and_repeats(dataset):
    loader = val_loader(dataset, text_length=4)
    keys = [batch.keys for batch in loader]
    assert keys == [["v0"], ["v1"], ["v2"], ["v3"], ["v4"]]
    assert [batch.keys for batch in loader] == keys


def test_every_rank_validates_on_the_same_number_of_batches(dataset):
    counts = [
        [
            sum(1 for _ in val_loader(dataset, dp_rank=r, dp_size=size, micro_batch_size=m, text_length=4))
            for r in range(size)
        ]
        for size, m in ((2, 1), (3, 1), (2, 2))
    ]
    assert counts == [[2, 2], [1, 1, 1], [1, 1]]


def test_validation_can_be_limited(dataset):
    assert [batch.keys for batch in val_loader(dataset, text_length=4, limit_batches=2)] == [["v0"], ["v1"]]


def test_without_a_val_split_there_is_no_val_loader(tmp_path):
    folder = write_dataset(tmp_path / "set", TRAIN)
    assert val_loader(folder, text_length=4) is None
    assert keys_of(train_loader(folder, text_length=4), 2)


def test_a_corrupt_sample_is_skipped_and_counted(tmp_path, caplog):
    def damage(sample, parts):
        return parts | {"latent.safetensors": parts["latent.safetensors"][:50]} if sample.key == "b1" else parts

    folder = write_dataset(tmp_path / "set", TRAIN, change=damage)
    skipped = SkippedSamples()
    keys = keys_of(train_loader(folder, micro_batch_size=4, text_length=4, skipped=skipped), 6)
    assert Counter(keys) == {s.key: 3 for v in TRAIN.values() for s in v if s.key != "b1"}
    assert skipped.count == 3
    messages = [record.message for record in caplog.records if "skipped a sample" in record.message]
    assert len(messages) == 1  # named once, not once per epoch
    assert "train-000001.tar" in messages[0]
    assert "'b1'" in messages[0]


def test_a_dataset_of_corrupt_samples_ends_with_one_line(tmp_path):
    folder = write_dataset(tmp_path / "set", TRAIN, change=lambda sample, parts: {"json": b"{"})
    with pytest.raises(UserError, match="100 samples in a row could not be read, the last in shard train-0"):
        next(iter(train_loader(folder, text_length=4)))


def test_a_truncated_shard_is_named_before_training_starts(tmp_path):
    folder = write_dataset(tmp_path / "set", TRAIN)
    shard = folder / "train-000001.tar"
    shard.write_bytes(shard.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"train-000001.tar has \d+ bytes, manifest.json says"):
        train_loader(folder)


def test_a_path_that_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        train_loader(tmp_path / "nowhere")
    with pytest.raises(UserError, match=f"{MANIFEST_NAME} is missing"):
        train_loader(tmp_path)


def test_a_dataset_without_train_samples_is_refused(tmp_path):
    folder = write_dataset(tmp_path / "set", VAL)
    with pytest.raises(UserError, match="has no train samples"):
        train_loader(folder)


def test_workers_deliver_restore_and_count(tmp_path):
    def damage(sample, parts):
        return parts | {"text.safetensors": b"?"} if sample.key == "a2" else parts

    folder = write_dataset(tmp_path / "set", TRAIN, change=damage)
    skipped = SkippedSamples()
    loader = train_loader(folder, num_workers=1, text_length=4, skipped=skipped)
    stream = iter(loader)
    first = [next(stream).keys for _ in range(5)]
    state = loader.save_state_rank()
    expected = [next(stream).keys for _ in range(12)]
    assert first != expected[:5]
    assert skipped.count >= 1
    restored = train_loader(folder, num_workers=1, text_length=4)
    restored.restore_state_rank(state)
    assert [batch.keys for batch in islice(iter(restored), 12)] == expected


def test_the_manifest_that_the_reader_sees_is_the_one_written(dataset):
    manifest = read_manifest(dataset)
    assert replace(manifest, seed=1) != manifest
    assert manifest.num_samples("train") == 9

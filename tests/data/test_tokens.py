"""Token ids through Energon's readers."""

from dataclasses import replace
from functools import partial
from itertools import islice

import pytest
import torch

from cosmos_nemo.data.encoders import SkippedSamples
from cosmos_nemo.data.latents import DiffusionTaskEncoder
from cosmos_nemo.data.loader import train_loader, val_loader
from cosmos_nemo.data.schema import sample_id
from cosmos_nemo.data.tokens import TokenTaskEncoder, collate_tokens
from cosmos_nemo.errors import UserError
from tests.data.shards import TOKEN_SHAPE, VOCAB_SIZE, make_tokens, write_dataset

TRAIN = {"train-000000.tar": [make_tokens(f"a{i}") for i in range(4)]}
VAL = {"val-000000.tar": [make_tokens(f"v{i}") for i in range(3)]}
MANIFEST = {
    "task": "autoregressive",
    "kind": "tokens",
    "latent_shape": None,
    "token_shape": TOKEN_SHAPE,
    "vocab_size": VOCAB_SIZE,
}
WITH_TEXT = partial(TokenTaskEncoder, text_length=10)


def write_tokens(folder, shards, **options):
    return write_dataset(folder, shards, **(MANIFEST | options))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_tokens(tmp_path_factory.mktemp("data") / "set", TRAIN | VAL)


def test_samples_arrive_as_they_were_written(dataset):
    batch = next(iter(train_loader(dataset, WITH_TEXT, micro_batch_size=3)))
    assert batch.tokens_B_T_H_W.dtype == torch.int64
    assert batch.sample_id_B.tolist() == [sample_id(key) for key in batch.keys]
    for row, key in enumerate(batch.keys):
        written = make_tokens(key)
        length = len(written.text_L_E)
        assert torch.equal(batch.tokens_B_T_H_W[row], written.tokens_T_H_W.long())
        assert torch.equal(batch.crossattn_emb_B_L_E[row, :length], written.text_L_E.float())
        assert batch.text_mask_B_L[row].tolist() == [True] * length + [False] * (10 - length)


def test_models_without_text_get_none(dataset):
    batch = next(iter(val_loader(dataset, TokenTaskEncoder)))
    assert batch.crossattn_emb_B_L_E is batch.text_mask_B_L is None
    assert batch.keys == ["v0"]


def test_moving_a_batch_keeps_its_contents():
    batch = collate_tokens([make_tokens("a")], text_length=None)
    moved = batch.to("cpu")
    assert moved is not batch
    assert (moved.keys, moved.crossattn_emb_B_L_E) == (batch.keys, None)
    assert torch.equal(moved.tokens_B_T_H_W, batch.tokens_B_T_H_W)


def test_a_restored_stream_goes_on_where_it_was_saved(dataset):
    loader = train_loader(dataset, WITH_TEXT)
    stream = iter(loader)
    assert len({next(stream).keys[0] for _ in range(3)}) == 3
    state = loader.save_state_rank()
    expected = [next(stream).keys for _ in range(6)]
    restored = train_loader(dataset, WITH_TEXT)
    restored.restore_state_rank(state)
    assert [batch.keys for batch in islice(iter(restored), 6)] == expected


def test_a_corrupt_sample_is_skipped_and_counted(tmp_path):
    def damage(sample, parts):
        return parts | {"tokens.safetensors": b"?"} if sample.key == "a1" else parts

    skipped = SkippedSamples()
    loader = train_loader(write_tokens(tmp_path / "set", TRAIN, change=damage), WITH_TEXT, skipped=skipped)
    assert {batch.keys[0] for batch in islice(iter(loader), 6)} == {"a0", "a2", "a3"}
    assert skipped.count == 2


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (make_tokens("odd", shape=(3, 4, 6)), r"'odd': token shape \(3, 4, 6\), but the manifest says \(2, 4, 6\)"),
        (make_tokens("mute", text_width=None), "'mute' has no text embedding; prepare the shards with --text-encoder"),
        (make_tokens("wide", text_width=9), "'wide': text width 9, but the manifest says 8"),
        (
            replace(make_tokens("high"), tokens_T_H_W=torch.full(TOKEN_SHAPE, VOCAB_SIZE, dtype=torch.int32)),
            "'high': token id 100 is not in the vocabulary of 100",
        ),
        (
            replace(make_tokens("low"), tokens_T_H_W=torch.full(TOKEN_SHAPE, -1, dtype=torch.int32)),
            "'low': token id -1 is not in the vocabulary of 100",
        ),
    ],
)
def test_a_sample_that_does_not_fit_stops_with_shard_and_key(tmp_path, sample, message):
    folder = write_tokens(tmp_path / "set", {"train-000000.tar": [sample]})
    with pytest.raises(UserError, match=f"shard train-000000.tar, sample {message}"):
        next(iter(train_loader(folder, WITH_TEXT)))


def test_a_dataset_of_another_kind_is_refused(dataset):
    with pytest.raises(
        UserError, match=r"holds tokens samples \(task autoregressive\), this model reads latent samples"
    ):
        train_loader(dataset, DiffusionTaskEncoder)

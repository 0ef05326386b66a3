"""Captions to T5 embeddings, on a tiny encoder made here."""

import json

import pytest
import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.text import MAX_TOKENS, load_t5
from cosmos_nemo.tokenizers.tiny import write_tiny_t5

CAPTIONS = ["A red ball bounces on a grey floor.", "Two discs collide.", "A red ball bounces."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_t5(tmp_path_factory.mktemp("t5") / "text_encoder", seed=0, captions=CAPTIONS)


@pytest.fixture(scope="module")
def encoder(folder):
    return load_t5(folder)


def test_embeddings_have_the_captions_own_lengths(encoder):
    embeddings = encoder.encode(CAPTIONS)
    assert [len(e) for e in embeddings] == [len(encoder.tokenizer(c).input_ids) for c in CAPTIONS]
    assert all(e.shape[1] == encoder.width == 64 and e.dtype == torch.bfloat16 for e in embeddings)


def test_every_caption_ends_with_the_end_token(encoder):
    assert all(encoder.tokenizer(c).input_ids[-1] == encoder.tokenizer.eos_token_id for c in CAPTIONS)


def test_natural_length_equals_padding_to_512(encoder):
    padded = encoder.tokenizer(CAPTIONS[0], padding="max_length", max_length=MAX_TOKENS, return_tensors="pt")
    hidden = encoder.model(input_ids=padded.input_ids, attention_mask=padded.attention_mask).last_hidden_state[0]
    embedding = encoder.encode(CAPTIONS[:1])[0]
    assert torch.allclose(hidden[: len(embedding)].bfloat16().float(), embedding.float(), atol=1e-2)


def test_the_order_of_captions_is_kept_whatever_the_batching(encoder):
    together = encoder.encode(CAPTIONS * 3, batch_size=2)
    for caption, embedding in zip(CAPTIONS * 3, together, strict=True):
        alone = encoder.encode([caption])[0]
        assert torch.allclose(embedding.float(), alone.float(), atol=2e-2)


def test_equal_captions_are_encoded_once(encoder, monkeypatch):
    calls = []
    original = encoder._encode_batch
    monkeypatch.setattr(encoder, "_encode_batch", lambda tokens: calls.extend(tokens) or original(tokens))
    first, second = encoder.encode([CAPTIONS[0], CAPTIONS[0]])
    assert len(calls) == 1
    assert first is second


def test_long_captions_are_truncated(encoder):
    assert len(encoder.encode(["word " * 2000])[0]) == MAX_TOKENS


def test_words_outside_the_tiny_vocabulary_are_still_told_apart(encoder):
    first, second = encoder.encode(["zebra", "xylophone"])
    assert first.shape != second.shape or not torch.equal(first, second)
    assert encoder.tokenizer.unk_token_id not in encoder.tokenizer("A zebra & 3 quokkas!").input_ids


def test_a_pipeline_folder_is_read(folder, encoder, tmp_path):
    (tmp_path / "text_encoder").symlink_to(folder)
    (tmp_path / "tokenizer").symlink_to(folder)
    assert torch.equal(load_t5(tmp_path).encode(CAPTIONS)[1], encoder.encode(CAPTIONS)[1])


def test_equal_seeds_write_equal_files(folder, tmp_path):
    again = write_tiny_t5(tmp_path / "t5", seed=0, captions=reversed(CAPTIONS))
    assert {f.name: f.read_bytes() for f in again.iterdir()} == {f.name: f.read_bytes() for f in folder.iterdir()}


def test_a_folder_without_an_encoder_is_refused(tmp_path):
    with pytest.raises(UserError, match="no T5 text encoder"):
        load_t5(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UserError, match="describes a 'bert' model"):
        load_t5(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(UserError, match="cannot be loaded"):
        load_t5(tmp_path)

"""Batches of latents and text embeddings."""

import torch

from cosmos_nemo.data.batch import pad_text
from cosmos_nemo.data.latents import collate
from tests.data.shards import make_sample


def test_text_is_padded_with_zeros_at_its_end():
    text = torch.randn(3, 8).bfloat16()
    padded = pad_text(text, 5)
    assert padded.dtype == torch.float32
    assert torch.equal(padded[:3], text.float())
    assert not padded[3:].any()


def test_text_that_is_too_long_is_cut():
    text = torch.randn(7, 8)
    assert torch.equal(pad_text(text, 5), text[:5])


def test_moving_a_batch_keeps_its_contents():
    batch = collate([make_sample("a")], text_length=4)
    moved = batch.to("cpu")
    assert moved is not batch
    assert moved.keys == batch.keys
    assert torch.equal(moved.latent_B_C_T_H_W, batch.latent_B_C_T_H_W)

"""Batches of latents and text embeddings."""

import torch

from cosmos_nemo.data.batch import collate, pad_text
from cosmos_nemo.data.schema import sample_id
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


def test_a_batch_holds_its_samples_in_order():
    samples = [make_sample("a"), make_sample("b")]
    batch = collate(samples, text_length=10)
    assert batch.keys == ["a", "b"]
    assert batch.batch_size == 2
    assert batch.sample_id_B.tolist() == [sample_id("a"), sample_id("b")]
    assert batch.latent_B_C_T_H_W.shape == (2, 16, 2, 4, 6)
    assert batch.latent_B_C_T_H_W.dtype == torch.float32
    assert torch.equal(batch.latent_B_C_T_H_W[1], samples[1].latent_C_T_H_W.float())
    assert batch.crossattn_emb_B_L_E.shape == (2, 10, 8)
    assert batch.fps_B.tolist() == [12.0, 12.0]
    assert batch.padding_mask_B_1_H_W.shape == (2, 1, 4, 6)
    assert not batch.padding_mask_B_1_H_W.any()


def test_moving_a_batch_keeps_its_contents():
    batch = collate([make_sample("a")], text_length=4)
    moved = batch.to("cpu")
    assert moved is not batch
    assert moved.keys == batch.keys
    assert torch.equal(moved.latent_B_C_T_H_W, batch.latent_B_C_T_H_W)

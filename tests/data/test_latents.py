"""Samples of latents to batches."""

import pytest
import torch

from cosmos_nemo.data.latents import collate
from cosmos_nemo.data.schema import sample_id
from cosmos_nemo.errors import UserError
from tests.data.shards import make_sample, train_loader, write_dataset


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


def test_latents_of_another_size_than_the_manifest_stop_with_shard_and_key(tmp_path):
    shards = {"train-000000.tar": [make_sample("big", latent_shape=(16, 3, 4, 6))]}
    folder = write_dataset(tmp_path / "set", shards)
    with pytest.raises(UserError, match=r"shard train-000000.tar, sample 'big': latent size \(16, 3, 4, 6\)"):
        next(iter(train_loader(folder, text_length=4)))


def test_text_of_another_width_than_the_manifest_stops_with_shard_and_key(tmp_path):
    shards = {"train-000000.tar": [make_sample("wide", text_width=9)]}
    folder = write_dataset(tmp_path / "set", shards)
    with pytest.raises(UserError, match="sample 'wide': text width 9, but the manifest says 8"):
        next(iter(train_loader(folder, text_length=4)))

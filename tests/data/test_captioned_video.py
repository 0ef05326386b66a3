"""Raw video with captions, encoded in training."""

from dataclasses import replace
from functools import partial
from itertools import islice

import pytest
import torch

from cosmos_nemo.data.captioned_video import CaptionedVideoTaskEncoder, as_latents, encode_batch
from cosmos_nemo.data.latents import train_loader as latent_loader
from cosmos_nemo.data.loader import train_loader
from cosmos_nemo.data.manifest import EncoderRef, read_manifest
from cosmos_nemo.data.raw_video import ClipWindow
from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.load import load_video_tokenizer
from cosmos_nemo.tokenizers.tiny import write_tiny_t5, write_tiny_wan
from data_prep.making.options import options_for
from data_prep.making.shards import make_shards
from tests.data_prep.conftest import add_clip

WINDOW = ClipWindow(num_frames=5, height=32, width=48, space="stretch", time="start")


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Clips of exactly five frames, encoders, and the shards of both kinds made of them."""
    folder = tmp_path_factory.mktemp("captioned")
    for index in range(3):
        add_clip(folder / "in", f"clip{index}", num_frames=5, seed=index, size=(40, 56))
    write_tiny_wan(folder / "vae", seed=0)
    write_tiny_t5(folder / "t5", seed=0, captions=["a ball"])
    common = {"input": folder / "in", "text_encoder": folder / "t5", "num_frames": 5, "val_fraction": 0.0}
    size = {"height": 32, "width": 48, "video_tokenizer": folder / "vae"}
    make_shards(options_for("v2w", None, output=folder / "latents", **common, **size))
    make_shards(options_for("v2w", None, raw=True, output=folder / "raw", **common))
    return folder


def by_source(loader, count):
    """Batches of one sample by the name of the video."""
    return {batch.keys[0].partition("_")[0]: batch for batch in islice(iter(loader), count)}


def test_encoded_in_training_is_encoded_beforehand(places):
    tokenizer = load_video_tokenizer(places / "vae")
    encoder = partial(CaptionedVideoTaskEncoder, window=WINDOW, text_length=40)
    raw = by_source(train_loader(places / "raw", encoder), 3)
    latents = by_source(latent_loader(places / "latents", text_length=40), 3)
    assert raw.keys() == latents.keys() == {"clip0", "clip1", "clip2"}
    for name, batch in raw.items():
        assert torch.equal(batch.text_mask_B_L, batch.crossattn_emb_B_L_E.abs().sum(-1) > 0)
        assert 0 < batch.text_mask_B_L.sum() < 40
        made, expected = encode_batch(batch, tokenizer), latents[name]
        assert torch.equal(made.latent_B_C_T_H_W, expected.latent_B_C_T_H_W)
        assert torch.equal(made.crossattn_emb_B_L_E, expected.crossattn_emb_B_L_E)
        assert torch.equal(made.fps_B, expected.fps_B)
        assert torch.equal(made.padding_mask_B_1_H_W, expected.padding_mask_B_1_H_W)


def test_a_model_sees_the_latents_that_the_video_becomes(places):
    ref = EncoderRef(path="vae", sha256="1")
    manifest = as_latents(read_manifest(places / "raw"), WINDOW, load_video_tokenizer(places / "vae"), ref)
    expected = read_manifest(places / "latents")
    for name in ("latent_shape", "latent_dtype", "num_frames", "height", "width", "fps", "text_width", "text_encoder"):
        assert getattr(manifest, name) == getattr(expected, name), name
    assert manifest.video_tokenizer == ref


@pytest.mark.parametrize(
    ("change", "message"),
    [({"height": 36}, "data.window.height=36 must be a multiple of 8"), ({"num_frames": 6}, "use 5 or 9")],
)
def test_a_window_that_does_not_fit_the_tokenizer_is_refused(places, change, message):
    tokenizer, ref = load_video_tokenizer(places / "vae"), EncoderRef(path="vae", sha256="1")
    with pytest.raises(UserError, match=message):
        as_latents(read_manifest(places / "raw"), replace(WINDOW, **change), tokenizer, ref)


def test_video_without_text_embeddings_is_refused_with_shard_and_key(places, tmp_path):
    options = {"input": places / "in", "output": tmp_path / "raw", "num_frames": 5, "val_fraction": 0.0}
    make_shards(options_for("v2w", None, raw=True, **options))
    loader = train_loader(tmp_path / "raw", partial(CaptionedVideoTaskEncoder, window=WINDOW))
    with pytest.raises(UserError, match=r"shard train-000000.tar, sample 'clip\d' has no text embedding; prepare"):
        next(iter(loader))

"""Clips that are encoded in training."""

from dataclasses import replace
from functools import partial
from itertools import islice

import pytest
import torch

from cosmos_nemo.data.batch import CaptionedVideoBatch, VideoBatch
from cosmos_nemo.data.captioned_video import CaptionedVideoTaskEncoder
from cosmos_nemo.data.clip_encoding import LatentEncoder, TokenEncoder
from cosmos_nemo.data.dataset import cut_out, open_dataset
from cosmos_nemo.data.loader import train_loader
from cosmos_nemo.data.window import ClipWindow
from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.load import load_video_tokenizer
from cosmos_nemo.tokenizers.tiny import write_tiny_t5, write_tiny_wan
from data_prep.making.options import options_for
from data_prep.making.shards import make_shards
from tests.data.shards import train_loader as latent_loader
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
    encoder = LatentEncoder(places / "vae")
    read = partial(CaptionedVideoTaskEncoder, window=WINDOW, text_length=40)
    raw = by_source(train_loader(places / "raw", read), 3)
    latents = by_source(latent_loader(places / "latents", text_length=40), 3)
    assert raw.keys() == latents.keys() == {"clip0", "clip1", "clip2"}
    for name, batch in raw.items():
        assert torch.equal(batch.text_mask_B_L, batch.crossattn_emb_B_L_E.abs().sum(-1) > 0)
        assert 0 < batch.text_mask_B_L.sum() < 40
        made, expected = encoder.encode(batch), latents[name]
        assert torch.equal(made.latent_B_C_T_H_W, expected.latent_B_C_T_H_W)
        assert torch.equal(made.crossattn_emb_B_L_E, expected.crossattn_emb_B_L_E)
        assert torch.equal(made.fps_B, expected.fps_B)
        assert torch.equal(made.padding_mask_B_1_H_W, expected.padding_mask_B_1_H_W)


def test_a_model_sees_the_latents_that_the_video_becomes(places):
    made = LatentEncoder(places / "vae").describe(cut_out(open_dataset(places / "raw"), WINDOW))
    expected = open_dataset(places / "latents")
    names = ("kind", "latent_shape", "num_frames", "height", "width", "fps", "text_width", "video_tokenizer")
    for name in (*names, "text_encoder", "num_train"):
        assert getattr(made, name) == getattr(expected, name), name
    assert made.encoded_in_training and not expected.encoded_in_training


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 36}, "data.window.height=36 must be a multiple of 8"),
        ({"num_frames": 6}, "data.window: .*use 5 or 9"),
    ],
)
def test_a_window_that_does_not_fit_the_tokenizer_is_refused(places, change, message):
    dataset = replace(open_dataset(places / "raw"), num_frames=None)
    with pytest.raises(UserError, match=message):
        LatentEncoder(places / "vae").describe(cut_out(dataset, replace(WINDOW, **change)))


def clips(**texts):
    generator = torch.Generator().manual_seed(0)
    fields = {
        "video_B_3_T_H_W": torch.randint(256, (2, 3, 9, 32, 48), generator=generator, dtype=torch.uint8),
        "fps_B": torch.tensor([24.0, 12.0]),
        "start_B": torch.tensor([0, 3]),
        "sample_id_B": torch.tensor([5, 6]),
        "keys": ["a", "b"],
    }
    return CaptionedVideoBatch(**fields, **texts) if texts else VideoBatch(**fields)


def test_clips_become_the_token_ids_of_the_tokenizer_one_by_one(exported_tokenizers):
    folder = exported_tokenizers["dv"][2]
    batch = clips()
    made = TokenEncoder(folder).encode(batch)
    tokenizer = load_video_tokenizer(folder)
    for row in range(2):
        assert torch.equal(made.tokens_B_T_H_W[row : row + 1], tokenizer.encode(batch.pixels()[row : row + 1]).long())
    assert made.crossattn_emb_B_L_E is made.text_mask_B_L is None
    assert (made.keys, made.fps_B.tolist(), made.sample_id_B.tolist()) == (["a", "b"], [24.0, 12.0], [5, 6])


def test_texts_go_with_the_token_ids(exported_tokenizers):
    texts = {"crossattn_emb_B_L_E": torch.randn(2, 4, 8), "text_mask_B_L": torch.ones(2, 4, dtype=torch.bool)}
    made = TokenEncoder(exported_tokenizers["dv"][2]).encode(clips(**texts))
    assert made.crossattn_emb_B_L_E is not None
    assert torch.equal(made.crossattn_emb_B_L_E, texts["crossattn_emb_B_L_E"]) and made.text_mask_B_L.all()


def test_a_tokenizer_of_the_other_kind_is_refused(places, exported_tokenizers):
    with pytest.raises(UserError, match="makes token ids, and this model reads latents"):
        LatentEncoder(exported_tokenizers["dv"][2])
    with pytest.raises(UserError, match="makes latents, and this model reads token ids"):
        TokenEncoder(places / "vae")

"""Which task encoder reads a data set for a model, and what must be set for it."""

from dataclasses import replace

import pytest
import torch

from cosmos_nemo.data.captioned_video import CaptionedVideoTaskEncoder
from cosmos_nemo.data.encoders import SkippedSamples
from cosmos_nemo.data.latents import DiffusionTaskEncoder
from cosmos_nemo.data.manifest import read_manifest
from cosmos_nemo.data.raw_video import RawVideoTaskEncoder
from cosmos_nemo.data.reading import Reading
from cosmos_nemo.data.schema import VideoSample
from cosmos_nemo.data.tokens import TokenTaskEncoder
from cosmos_nemo.data.window import ClipWindow
from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.tiny import write_tiny_wan
from tests.data.shards import TOKEN_SHAPE, VOCAB_SIZE, make_sample, make_tokens, write_dataset
from tests.data.videos import clip_files

WINDOW = ClipWindow(num_frames=5, height=32, width=48, space="random")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set of every kind: latents, tokens, videos (with texts)."""
    root = tmp_path_factory.mktemp("reading")
    none = {"latent_shape": None, "latent_dtype": None}
    write_dataset(root / "latents", {"train-000000.tar": [make_sample("a")]})
    write_dataset(
        root / "tokens",
        {"train-000000.tar": [make_tokens("a")]},
        **{"task": "autoregressive", "kind": "tokens", "token_shape": TOKEN_SHAPE, "vocab_size": VOCAB_SIZE} | none,
    )
    files = clip_files(root)
    samples = [VideoSample(key=key, media=files[key], text_L_E=torch.randn(3, 8)) for key in "ab"]
    absent = dict.fromkeys(("num_frames", "height", "width", "video_tokenizer"))
    write_dataset(root / "videos", {"train-000000.tar": samples}, kind="video", **none, **absent)
    write_tiny_wan(root / "vae", seed=0)
    return root


@pytest.mark.parametrize(
    ("kind", "name", "text_length", "expected"),
    [
        ("latent", "latents", 4, DiffusionTaskEncoder),
        ("latent", "videos", 4, CaptionedVideoTaskEncoder),
        ("tokens", "tokens", None, TokenTaskEncoder),
        ("tokens", "videos", None, RawVideoTaskEncoder),
        ("tokens", "videos", 4, CaptionedVideoTaskEncoder),
        ("video", "videos", None, RawVideoTaskEncoder),
    ],
)
def test_task_encoder_is_that_of_what_the_model_reads_and_the_folder_holds(folder, kind, name, text_length, expected):
    reading = Reading(kind=kind, text_length=text_length, window=WINDOW, seed=3)
    manifest = read_manifest(folder / name)
    assert type(reading.task_encoder(manifest, SkippedSamples())) is expected
    assert type(reading.val_task_encoder(manifest, SkippedSamples())) is expected


def test_a_bare_folder_holds_video():
    reading = Reading(kind="tokens", window=WINDOW, seed=3)
    assert type(reading.task_encoder(None, SkippedSamples())) is RawVideoTaskEncoder


def test_validation_reads_the_middle_of_the_files_and_the_window_of_its_own():
    val_window = replace(WINDOW, height=16)
    train, val, own = (
        make(None, SkippedSamples()).window
        for make in (
            Reading(kind="video", window=WINDOW).task_encoder,
            Reading(kind="video", window=WINDOW).val_task_encoder,
            Reading(kind="video", window=WINDOW, val_window=val_window).val_task_encoder,
        )
    )
    assert (train.time, val.time, own.time) == ("random", "centre", "centre")
    assert (train.height, val.height, own.height) == (32, 32, 16)


def test_video_is_described_as_what_it_becomes(folder):
    reading = Reading(kind="latent", text_length=4, window=WINDOW, tokenizer_path=str(folder / "vae"))
    dataset = reading.open(str(folder / "videos"))
    assert (dataset.kind, dataset.latent_shape, dataset.text_length) == ("latent", (16, 2, 4, 6), 4)
    as_it_is = Reading(kind="video", window=WINDOW).open(str(folder / "videos"))
    assert (as_it_is.kind, as_it_is.num_frames, as_it_is.latent_shape) == ("video", 5, None)
    prepared = Reading(kind="latent", text_length=4, window=WINDOW).open(str(folder / "latents"))
    assert prepared.window is None and not prepared.encoded_in_training


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        (Reading(kind="latent", window=WINDOW), "set data.tokenizer_path to a video tokenizer that makes latents"),
        (Reading(kind="tokens", window=WINDOW), "or prepare token ids with `python -m data_prep shards --for ar`"),
        (Reading(kind="latent", tokenizer_path="vae"), "and data.window to what is cut out of them"),
        (Reading(kind="video"), "data.window is not set"),
    ],
)
def test_settings_that_video_needs_are_asked_for(folder, reading, words):
    with pytest.raises(UserError, match=words):
        reading.open(str(folder / "videos"))


def test_batches_of_clips_are_encoded_where_the_model_reads_something_else(folder):
    reading = Reading(kind="latent", text_length=4, window=WINDOW, tokenizer_path=str(folder / "vae"))
    from cosmos_nemo.data.loader import train_loader

    batch = next(iter(train_loader(folder / "videos", reading.task_encoder)))
    assert reading.finish(batch).latent_B_C_T_H_W.shape == (1, 16, 2, 4, 6)
    assert Reading(kind="video", window=WINDOW).finish(batch) is batch
    assert reading.finish(reading.finish(batch)).latent_B_C_T_H_W.shape == (1, 16, 2, 4, 6)

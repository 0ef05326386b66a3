"""What lies in a folder of shards, and what a model sees of it."""

from dataclasses import replace

import pytest

from cosmos_nemo.data.dataset import Dataset, cut_out, dataset_digest, open_dataset
from cosmos_nemo.data.manifest import EncoderRef
from cosmos_nemo.data.window import ClipWindow
from cosmos_nemo.errors import UserError
from tests.data.shards import LATENT_SHAPE, make_sample, write_dataset

SHARDS = {
    "train-000000.tar": [make_sample(f"a{i}") for i in range(3)],
    "val-000000.tar": [make_sample("v0")],
}
VIDEOS = Dataset(field="data.path", path="x", num_train=3, num_val=1, kind="video", fps=24.0)


def test_a_dataset_is_what_its_manifest_says(tmp_path):
    dataset = open_dataset(write_dataset(tmp_path / "set", SHARDS), field="data.val_path")
    assert (dataset.field, dataset.path) == ("data.val_path", str(tmp_path / "set"))
    assert (dataset.num_train, dataset.num_val) == (3, 1)
    assert (dataset.kind, dataset.task, dataset.latent_shape) == ("latent", "video2world", LATENT_SHAPE)
    assert dataset.text_length is None, "what texts are padded to is the reader's choice, not the manifest's"


def test_embeddings_that_were_made_elsewhere_have_no_text_encoder(tmp_path):
    dataset = open_dataset(write_dataset(tmp_path / "set", SHARDS, text_encoder=None))
    facts = replace(dataset, text_length=64).facts()
    assert facts["text_encoder"] is None and facts["video_tokenizer"] == EncoderRef(path="none", sha256="")
    assert (facts["text_width"], facts["text_length"], facts["window"]) == (8, 64, None)


def test_cut_out_clips_have_the_size_of_the_window_and_the_rate_of_its_stride():
    window = ClipWindow(num_frames=5, height=16, width=32, stride=2)
    clips = cut_out(replace(VIDEOS, num_frames=9), window, field="data.val_window")
    assert (clips.num_frames, clips.height, clips.width, clips.fps) == (5, 16, 32, 12.0)
    assert (clips.window, clips.window_field, clips.kind) == (window, "data.val_window", "video")
    assert cut_out(replace(VIDEOS, fps=None), window).fps is None


def test_files_that_are_known_to_be_too_short_or_too_small_are_refused():
    files = replace(VIDEOS, num_frames=10, height=32, width=48)
    with pytest.raises(UserError, match=r"data.path has clips of 10 frames, and data.window takes 17; lower data"):
        cut_out(files, ClipWindow(num_frames=17, height=8, width=8))
    with pytest.raises(UserError, match=r"frames of 32x48, and data.val_window cuts out 64x32; lower data.val_window"):
        cut_out(files, ClipWindow(num_frames=9, height=64, width=32), field="data.val_window")
    for fits in ({"space": "cover"}, {"space": "stretch"}, {"resize_short_side": 64}):
        assert cut_out(files, ClipWindow(num_frames=9, height=64, width=32, **fits)).height == 64


def test_a_dataset_is_recognised_wherever_it_lies(tmp_path):
    folder = write_dataset(tmp_path / "set", SHARDS)
    before = dataset_digest(folder)
    assert dataset_digest(folder.rename(tmp_path / "elsewhere")) == before
    other = write_dataset(tmp_path / "other", {"train-000000.tar": [make_sample("b")]})
    assert dataset_digest(other) != before


def test_facts_of_clips_have_their_window():
    clips = cut_out(VIDEOS, ClipWindow(num_frames=5, height=16, width=32))
    assert clips.facts()["window"]["num_frames"] == 5 and clips.facts()["height"] == 16
    assert clips.words() == "5 frames 16x32 cut out of video files"

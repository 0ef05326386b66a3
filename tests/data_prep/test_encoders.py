"""The tiny encoders fitted to a dataset."""

import pytest
import torch

from cosmos_nemo.data.frames import probe_video, read_frames
from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.text import load_t5
from cosmos_nemo.tokenizers.tiny import new_tiny_wan
from cosmos_nemo.tokenizers.wan import load_wan
from data_prep.encoders import EncoderOptions, condition_weights, write_encoders
from data_prep.sample import SampleOptions, write_sample


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / "set"
    write_sample(folder, SampleOptions(num_videos=3, num_frames=9, height=32, width=48))
    return folder


@pytest.fixture(scope="module")
def fitted(videos, tmp_path_factory):
    notes = []
    folder = tmp_path_factory.mktemp("encoders")
    options = EncoderOptions(videos=videos / "videos", steps=6, height=32, width=48)
    return folder, write_encoders(folder, options, on_step=notes.append), notes


def load_video(videos):
    path = sorted((videos / "videos").glob("*.mp4"))[0]
    frames = read_frames(path, probe_video(path), start=0, num_frames=9, size=(32, 48))
    return frames[None].float() / 127.5 - 1


def test_both_encoders_load_through_the_usual_path(fitted, videos):
    folder, result, notes = fitted
    assert load_wan(folder / "vae").encode(load_video(videos)).shape == (1, 16, 3, 4, 6)
    assert load_t5(folder / "text_encoder").encode(["A red ball."])[0].shape[1] == 64
    assert len(notes) == 6
    assert result.num_captions == 3
    assert result.picture.is_file()
    assert sorted(f.name for f in folder.iterdir()) == ["reconstruction.png", "text_encoder", "vae"]


def test_latents_of_the_dataset_have_unit_variance_per_channel(fitted, videos):
    tokenizer = load_wan(fitted[0] / "vae")
    latents = []
    for path in sorted((videos / "videos").glob("*.mp4")):
        frames = read_frames(path, probe_video(path), start=0, num_frames=9, size=(32, 48))
        latents.append(tokenizer.encode(frames[None].float() / 127.5 - 1)[0].flatten(1))
    flat = torch.cat(latents, dim=1)
    assert torch.allclose(flat.mean(dim=1), torch.zeros(16), atol=1e-3)
    assert torch.allclose(flat.std(dim=1), torch.ones(16), atol=1e-3)


def test_equal_seeds_fit_equal_encoders(fitted, videos, tmp_path):
    options = EncoderOptions(videos=videos, steps=6, height=32, width=48)
    again = write_encoders(tmp_path, options)
    assert again.psnr == fitted[1].psnr
    for name in ("vae", "text_encoder"):
        for file in (fitted[0] / name).iterdir():
            assert (tmp_path / name / file.name).read_bytes() == file.read_bytes()


def test_colours_pass_through_the_network_before_the_first_step(videos):
    """At one eighth of the size, latents follow the picture in the first three channels."""
    model = new_tiny_wan(seed=0)
    condition_weights(model, seed=0)
    video = torch.cat([load_video(videos)[:, :, :1]] * 1)
    with torch.no_grad():
        latent = model.encode(video).latent_dist.mode()
    blurred = torch.nn.functional.avg_pool3d(video, (1, 8, 8))
    for channel in range(3):
        pair = torch.stack([latent[0, channel].flatten(), blurred[0, channel].flatten()])
        assert torch.corrcoef(pair)[0, 1] > 0.6


def test_a_folder_without_usable_videos_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        write_encoders(tmp_path / "out", EncoderOptions(videos=tmp_path / "none"))
    (tmp_path / "in" / "videos").mkdir(parents=True)
    (tmp_path / "in" / "videos" / "bad.mp4").write_bytes(b"x")
    with pytest.raises(UserError, match=r"no video in .* is readable and has 9 frames"):
        write_encoders(tmp_path / "out", EncoderOptions(videos=tmp_path / "in"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", [{"height": 36}, {"width": 40}, {"steps": -1}], ids=str)
def test_options_that_cannot_work_are_refused(tmp_path, change):
    with pytest.raises(UserError, match="--"):
        EncoderOptions(videos=tmp_path, **change)

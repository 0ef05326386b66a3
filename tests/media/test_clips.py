import numpy as np
import pytest
import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.media.clips import cover_and_crop, read_clip, to_frames, to_video
from cosmos_nemo.media.writing import write_video
from tests.media.ramp import moving_ramp


def test_first_and_last_frames_can_be_picked(tmp_path):
    write_video(moving_ramp(10), tmp_path / "clip.mp4", fps=8)
    whole = read_clip(tmp_path / "clip.mp4")
    assert torch.equal(read_clip(tmp_path / "clip.mp4", last=3), whole[-3:])
    assert torch.equal(read_clip(tmp_path / "clip.mp4", first=4), whole[:4])
    assert torch.equal(read_clip(tmp_path / "clip.mp4", last=99), whole)


def test_pixels_round_trip_through_the_unit_range():
    frames = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 3, 16, 16)
    video = to_video(frames)
    assert video.shape == (1, 3, 1, 16, 16) and video.min() == -1 and video.max() == 1
    assert torch.equal(to_frames(video), frames)


@pytest.mark.parametrize(("source", "target"), [((48, 64), (32, 32)), ((30, 90), (64, 64)), ((100, 40), (32, 48))])
def test_covering_leaves_no_border_and_does_not_distort(source, target):
    yy, xx = np.mgrid[: source[0], : source[1]]
    ratio = max(target[1] / source[1], target[0] / source[0])
    ramp = torch.from_numpy(np.stack([xx, yy, xx * 0 + 200])).to(torch.uint8)[None]
    out = cover_and_crop(ramp, *target)[0].float()
    assert out.shape[1:] == target
    assert (out[2] == 200).all()
    # One pixel to the right in the result is 1/ratio pixels to the right in the source, and the same downwards.
    inner = out[:, 4:-4, 4:-4]
    assert inner[0].diff(dim=1).mean() == pytest.approx(1 / ratio, abs=0.03)
    assert inner[1].diff(dim=0).mean() == pytest.approx(1 / ratio, abs=0.03)
    assert out[0].mean() == pytest.approx((source[1] - 1) / 2, abs=1), "the centre is kept"


def test_the_right_size_is_left_alone():
    frames = moving_ramp(2)
    assert cover_and_crop(frames, 48, 64) is frames or torch.equal(cover_and_crop(frames, 48, 64), frames)


@pytest.mark.parametrize(("name", "content"), [("a.mp4", b"not a video"), ("a.png", b"not a picture"), ("a.jpg", b"")])
def test_an_unreadable_input_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} cannot be read"):
        read_clip(tmp_path / name)


def test_a_missing_input_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.mp4 does not exist"):
        read_clip(tmp_path / "none.mp4")


def test_real_clips_are_read(shared_dir):
    frames = read_clip(shared_dir / "videos" / "bridge_train_5873.mp4", last=5)
    assert frames.shape == (5, 3, 480, 640) and frames.float().std() > 10

"""What is cut out of a video file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cosmos_nemo.data.clips import cut
from cosmos_nemo.data.schema import VideoSample
from cosmos_nemo.data.window import ClipWindow
from cosmos_nemo.media.pictures import VideoError
from tests.data.videos import CLIP_LENGTHS, clip_files, noise, whole_picture

WINDOW = ClipWindow(num_frames=5, height=16, width=16)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return clip_files(tmp_path_factory.mktemp("videos"))


def sample(files: dict[str, bytes], key: str) -> VideoSample:
    return VideoSample(key=key, media=files[key])


def test_clip_is_the_file_from_its_first_frame_on(files: dict[str, bytes]) -> None:
    clip = cut(sample(files, "a"), whole_picture(), seed=0, pass_index=0)
    whole = cut(sample(files, "a"), whole_picture(num_frames=12), seed=0, pass_index=0).video_3_T_H_W
    assert clip.video_3_T_H_W.shape == (3, 5, 32, 48)
    assert torch.equal(clip.video_3_T_H_W, whole[:, clip.start : clip.start + 5])
    error = np.abs(whole.permute(1, 2, 3, 0).numpy().astype(int) - noise(12, seed=12).astype(int))
    assert error.mean() < 25, "the frames are those that were written, up to compression"


def test_every_start_and_place_occurs_and_nothing_outside(files: dict[str, bytes]) -> None:
    one = sample(files, "b")
    starts = {cut(one, WINDOW, seed=0, pass_index=p).start for p in range(60)}
    assert starts == set(range(CLIP_LENGTHS["b"] - 5 + 1))
    exact = sample(files, "c")  # as long as a clip
    assert cut(exact, WINDOW, seed=0, pass_index=0).start == 0


def test_draws_depend_on_seed_sample_and_pass_only(files: dict[str, bytes]) -> None:
    one = sample(files, "e")
    same = [cut(one, WINDOW, seed=1, pass_index=2).video_3_T_H_W for _ in range(2)]
    assert torch.equal(*same)
    others = [cut(one, WINDOW, seed=s, pass_index=p).video_3_T_H_W for s, p in ((2, 2), (1, 3))]
    assert not any(torch.equal(same[0], other) for other in others)


def test_turning_around_is_done_as_often_as_asked(files: dict[str, bytes]) -> None:
    one, window = sample(files, "c"), whole_picture()
    plain = cut(one, window, seed=0, pass_index=0).video_3_T_H_W
    flipped = cut(one, whole_picture(flip_probability=1.0), seed=0, pass_index=0).video_3_T_H_W
    reversed_ = cut(one, whole_picture(reverse_probability=1.0), seed=0, pass_index=0).video_3_T_H_W
    assert torch.equal(flipped, plain.flip(3)) and torch.equal(reversed_, plain.flip(1))
    half = whole_picture(flip_probability=0.5)
    count = sum(torch.equal(cut(one, half, seed=0, pass_index=p).video_3_T_H_W, plain.flip(3)) for p in range(40))
    assert 10 < count < 30


def test_stride_resize_and_cover(files: dict[str, bytes]) -> None:
    one = sample(files, "e")
    whole = cut(one, whole_picture(num_frames=20), seed=0, pass_index=0).video_3_T_H_W
    strided = cut(one, whole_picture(stride=3, time="start"), seed=0, pass_index=0)
    assert torch.equal(strided.video_3_T_H_W, whole[:, :13:3]) and strided.fps == pytest.approx(8.0)
    small = cut(one, ClipWindow(num_frames=5, height=8, width=12, resize_short_side=8), seed=0, pass_index=0)
    assert small.video_3_T_H_W.shape == (3, 5, 8, 12)
    covered = cut(one, ClipWindow(num_frames=5, height=16, width=16, space="cover"), seed=0, pass_index=0)
    assert covered.video_3_T_H_W.shape == (3, 5, 16, 16)
    centre = cut(one, ClipWindow(num_frames=4, height=16, width=16).still(), seed=9, pass_index=9)
    assert centre.start == 8 and torch.equal(centre.video_3_T_H_W, whole[:, 8:12, 8:24, 16:32])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_frames": 13}, "12 frames, where a clip takes 13"),
        ({"stride": 4}, r"12 frames, where a clip takes 17 \(num_frames=5, stride=4\)"),
        ({"height": 40}, "32x48 pixels, where clips of 40x48 are cut out"),
    ],
)
def test_files_that_are_too_short_or_too_small_say_so(
    files: dict[str, bytes], changes: dict[str, int], words: str
) -> None:
    with pytest.raises(VideoError, match=words):
        cut(sample(files, "a"), whole_picture(**changes), seed=0, pass_index=0)

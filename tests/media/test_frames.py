"""Exact frames: whatever the file is like, they equal a plain decode from its beginning."""

from fractions import Fraction

import pytest
import torch

from cosmos_nemo.media import frames as module
from cosmos_nemo.media.frames import iter_frames, read_frames, read_indices, resampled_indices
from cosmos_nemo.media.pictures import VideoError, resize
from cosmos_nemo.media.probe import probe_video
from tests.data import videos

KINDS = ["gop", "uneven", "uneven mkv", "late start", "edit list", "one keyframe", "all keyframes", "transport stream"]
KINDS += ["avi", "webm", "mpeg4", "10 bit 444", "gray", "rgb with alpha"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_index_and_range_equals_a_sequential_decode(files, kind):
    path = files[kind]
    probe, truth = probe_video(path), videos.sequential(path)
    count = truth.shape[1]
    assert (probe.num_frames, probe.height, probe.width) == (count, *truth.shape[-2:])
    assert torch.equal(read_frames(path, probe, start=0, num_frames=count), truth)
    for index in range(count):
        assert torch.equal(read_indices(path, probe, [index])[:, 0], truth[:, index]), index
    for start in range(0, count - 4, 3):
        assert torch.equal(read_frames(path, probe, start=start, num_frames=5), truth[:, start : start + 5]), start
    scattered = [count - 1, 0, 3, 3, count // 2, 1]
    assert torch.equal(read_indices(path, probe, scattered), truth[:, scattered])
    assert all(torch.equal(f, truth[:, i]) for i, f in enumerate(iter_frames(path, probe)))


@pytest.mark.parametrize(
    "name", ["driving_1", "bridge_train_1432", "bridge_val_1996", "hd_short_input2", "generated_text2world"]
)
def test_real_videos_equal_a_sequential_decode(shared_dir, name):
    path = shared_dir / "videos" / f"{name}.mp4"
    probe, truth = probe_video(path), resize(videos.sequential(path).transpose(0, 1), (64, 96)).transpose(0, 1)
    assert probe.num_frames == truth.shape[1]
    for start in (0, 1, probe.num_frames // 2, probe.num_frames - 5):
        window = read_frames(path, probe, start=start, num_frames=5, size=(64, 96))
        assert torch.equal(window, truth[:, start : start + 5])
    last_first = [probe.num_frames - 1, 0]
    assert torch.equal(read_indices(path, probe, last_first, size=(64, 96)), truth[:, last_first])


def test_the_content_of_a_file_reads_like_the_file(files):
    content = files["gop"].read_bytes()
    probe = probe_video(content)
    assert probe == probe_video(files["gop"])
    window = read_frames(content, probe, start=31, num_frames=7)
    assert torch.equal(window, videos.sequential(files["gop"])[:, 31:38])


@pytest.mark.parametrize("kind", ["gop", "uneven", "late start", "uneven mkv", "edit list", "mpeg4"])
def test_one_seek_leads_to_the_keyframe_before(files, kind, monkeypatch):
    monkeypatch.setattr(module, "_by_count", lambda *a: pytest.fail("fell back to decoding from the beginning"))
    path = files[kind]
    probe = probe_video(path)
    decoded = count_decoded(monkeypatch)
    read_frames(path, probe, start=probe.num_frames - 2, num_frames=2)
    assert len(decoded) <= 20, "no more than the group of pictures"


def test_frames_that_nobody_needs_are_not_decoded(files, monkeypatch):
    path = files["one keyframe"]
    probe, truth = probe_video(path), videos.sequential(path)
    decoded = count_decoded(monkeypatch)
    assert torch.equal(read_frames(path, probe, start=40, num_frames=5), truth[:, 40:45])
    assert len(decoded) < 35, "of forty frames before the window, only those that others refer to"
    every_third = list(range(0, 50, 3))
    assert torch.equal(read_indices(path, probe, every_third), truth[:, every_third])


def test_gaps_between_wanted_frames_are_sought_over(files, monkeypatch):
    path = files["gop"]
    probe = probe_video(path)
    decoded = count_decoded(monkeypatch)
    read_indices(path, probe, [0, 42])
    assert len(decoded) <= 1 + 3
    decoded.clear()
    list(iter_frames(path, probe))
    assert len(decoded) == 50, "the next frame is not sought, even where it is a keyframe"


def count_decoded(monkeypatch):
    """A list that grows by one with every frame the reader gets from the decoder."""
    decoded = []
    original = module._decode_on

    def counting(*arguments):
        for frame in original(*arguments):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(module, "_decode_on", counting)
    return decoded


@pytest.mark.parametrize("fps", [24.0, 12.0, 8.0, 48.0, 30.0, 10.0, 0.1])
def test_resampling_takes_the_nearest_frame_at_every_time(files, fps):
    for kind in ("gop", "uneven", "uneven mkv", "avi"):
        probe = probe_video(files[kind])
        times = [float(t) for t in probe.seconds]
        indices = resampled_indices(probe, fps)
        assert len(indices) == max(1, int(float(probe.duration) * fps + 0.5))
        for k, index in enumerate(indices):
            assert abs(times[index] - k / fps) <= min(abs(t - k / fps) for t in times) + 1e-9
    if fps == 24.0:
        assert resampled_indices(probe_video(files["gop"]), fps) == list(range(50))
    if fps == 12.0:
        assert resampled_indices(probe_video(files["gop"]), fps) == list(range(0, 50, 2))


def test_a_resampled_stream_repeats_and_drops_frames(files):
    path = files["uneven"]
    probe, truth = probe_video(path), videos.sequential(path)
    indices = resampled_indices(probe, 15.0)
    assert len(set(indices)) < len(indices) and len(set(indices)) < 50
    for index, frame in zip(indices, iter_frames(path, probe, indices), strict=True):
        assert torch.equal(frame, truth[:, index])
    with pytest.raises(VideoError, match="frame rate 0 must be positive"):
        resampled_indices(probe, 0)


@pytest.mark.parametrize(
    "turn", [["90"], ["180"], ["-90"], ["90", "-display_hflip"], ["0", "-display_vflip"], ["180", "-display_hflip"]]
)
def test_rotated_and_mirrored_files_are_shown_upright(files, tmp_path, turn):
    path = videos.remux(files["gop"], tmp_path / "turned.mp4", before=["-display_rotation", *turn])
    probe = probe_video(path)
    assert (probe.height, probe.width) == ((48, 32) if turn[0] in ("90", "-90") else (32, 48))
    assert torch.equal(
        read_frames(path, probe, start=0, num_frames=50), videos.by_ffmpeg(path, (probe.height, probe.width))
    )
    assert read_frames(path, probe, start=7, num_frames=2, size=(20, 30), fit="cover").shape == (3, 2, 20, 30)


def test_pixels_that_are_not_square_are_made_square(tmp_path):
    path = videos.write(tmp_path / "wide.mp4", videos.noise(3), sample_aspect_ratio=Fraction(4, 3))
    probe, stored = probe_video(path), videos.sequential(path)
    assert (probe.height, probe.width, probe.sample_aspect_ratio) == (32, 64, Fraction(4, 3))
    shown = read_frames(path, probe, start=0, num_frames=3)
    assert torch.equal(shown, resize(stored.transpose(0, 1), (32, 64)).transpose(0, 1))
    # Covering a square cuts the sides of what is shown, not of what is stored: a sixth of it instead of a quarter goes.
    square = read_frames(path, probe, start=0, num_frames=1, size=(32, 32), fit="cover")
    wide = resize(stored[:, 0], (32, 64), fit="cover", display_size=(32, 64))
    assert torch.equal(square[:, 0], wide[..., 16:48])
    turned = videos.remux(path, tmp_path / "turned.mp4", before=["-display_rotation", "90"])
    assert (probe_video(turned).height, probe_video(turned).width) == (64, 32)


@pytest.mark.parametrize("count", [1, 4, 5, 6])
def test_a_clip_may_be_a_frame_too_short_or_just_long_enough(tmp_path, count):
    path = videos.write(tmp_path / "clip.mp4", videos.noise(count))
    probe, truth = probe_video(path), videos.sequential(path)
    assert probe.num_frames == count
    if count < 5:
        with pytest.raises(VideoError, match=f"has {count} frames, but frames 0 to 4 are wanted"):
            read_frames(path, probe, start=0, num_frames=5)
    else:
        assert torch.equal(read_frames(path, probe, start=count - 5, num_frames=5), truth[:, count - 5 :])
    for index in (-1, count):
        with pytest.raises(VideoError, match=f"has {count} frames, but frame {index} is wanted"):
            read_indices(path, probe, [index])


def test_damage_inside_is_an_error_and_no_grey_frame(files):
    content = bytearray(files["one keyframe"].read_bytes())
    probe = probe_video(bytes(content))
    place = len(content) // 2
    content[place : place + 400] = bytes(400)
    with pytest.raises(VideoError, match="unreadable"):
        read_frames(bytes(content), probe, start=0, num_frames=50)


def test_a_probe_of_another_file_is_noticed(files):
    probe = probe_video(files["uneven"])
    with pytest.raises(VideoError, match="cannot be decoded"):
        read_frames(files["gop"], probe, start=3, num_frames=2)
    with pytest.raises(VideoError, match="only 12 frames can be decoded"):
        read_frames(files["webm"], probe_video(files["avi"]), start=20, num_frames=2)

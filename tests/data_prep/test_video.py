"""Exact frames from video files."""

import av
import numpy as np
import pytest
import torch

from data_prep.video import VideoError, probe_video, read_frames, resize_image, write_video


def numbered_frames(count, height=32, width=48):
    """Frames that differ in brightness, so that each can be told by its mean."""
    frames = np.zeros((count, height, width, 3), dtype=np.uint8)
    frames[:] = (np.arange(count) * (200 // count) + 20)[:, None, None, None]
    return frames


def sequential(path, size=None):
    """All frames in the plainest way there is."""
    with av.open(str(path)) as container:
        frames = [torch.from_numpy(f.to_ndarray(format="rgb24")).permute(2, 0, 1) for f in container.decode(video=0)]
    return torch.stack([f if size is None else resize_image(f, size) for f in frames], dim=1)


@pytest.fixture(scope="module")
def long_gop(tmp_path_factory):
    """A video with B-frames and few keyframes, where decoding order is not the order of presentation."""
    path = tmp_path_factory.mktemp("video") / "gop.mp4"
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"bf": "3", "g": "20", "sc_threshold": "0"})
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for frame in numbered_frames(50):
            noisy = frame + rng.integers(0, 20, frame.shape, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noisy, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_written_videos_have_their_frames_and_rate(tmp_path):
    path = tmp_path / "a.mp4"
    frames = numbered_frames(12)
    write_video(path, frames, fps=12)
    probe = probe_video(path)
    assert (probe.num_frames, probe.height, probe.width, probe.fps, probe.codec) == (12, 32, 48, 12.0, "h264")
    read = read_frames(path, probe, start=0, num_frames=12, size=(32, 48))
    assert (read.float().mean(dim=(0, 2, 3)) - torch.tensor(frames.mean(axis=(1, 2, 3)))).abs().max() < 2
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_equal_frames_give_equal_files(tmp_path):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (10, 32, 48, 3), dtype=np.uint8)
    for name in "ab":
        write_video(tmp_path / f"{name}.mp4", frames, fps=12)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_any_window_equals_a_sequential_decode(long_gop):
    probe, truth = probe_video(long_gop), sequential(long_gop)
    assert probe.num_frames == truth.shape[1] == 50
    for start in (0, 1, 19, 20, 21, 33, 45):
        assert torch.equal(
            read_frames(long_gop, probe, start=start, num_frames=5, size=(32, 48)), truth[:, start : start + 5]
        )


def test_the_first_and_the_last_legal_window_can_be_read(long_gop):
    probe, truth = probe_video(long_gop), sequential(long_gop)
    assert torch.equal(read_frames(long_gop, probe, start=0, num_frames=50, size=(32, 48)), truth)
    assert torch.equal(read_frames(long_gop, probe, start=49, num_frames=1, size=(32, 48)), truth[:, 49:])
    with pytest.raises(VideoError, match="asked of 50"):
        read_frames(long_gop, probe, start=49, num_frames=2, size=(32, 48))


def test_seeking_reads_no_more_than_the_group_of_pictures(long_gop, monkeypatch):
    from data_prep import video

    decoded = []
    original = video._Converter.__call__
    monkeypatch.setattr(video._Converter, "__call__", lambda self, frame: decoded.append(1) or original(self, frame))
    monkeypatch.setattr(video, "_fill_by_count", lambda *a: pytest.fail("fell back to decoding from the beginning"))
    video.read_frames(long_gop, video.probe_video(long_gop), start=45, num_frames=5, size=(32, 48))
    assert len(decoded) == 5


def test_frames_are_resized_to_exactly_the_target(long_gop):
    probe = probe_video(long_gop)
    frames = read_frames(long_gop, probe, start=3, num_frames=2, size=(16, 64))
    assert frames.shape == (3, 2, 16, 64)
    assert torch.equal(frames, sequential(long_gop, (16, 64))[:, 3:5])


def test_uint8_resizing_agrees_with_float32_to_one_grey_level():
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    exact = torch.nn.functional.interpolate(image[None].float(), size=(20, 44), mode="bilinear", antialias=True)[0]
    assert (resize_image(image, (20, 44)).float() - exact).abs().max() <= 1.0


@pytest.mark.parametrize("content", [b"", b"this is no video", b"\0" * 5000])
def test_a_file_that_is_no_video_is_refused(tmp_path, content):
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match="unreadable"):
        probe_video(path)


def test_a_truncated_video_is_refused(tmp_path, long_gop):
    path = tmp_path / "cut.mp4"
    path.write_bytes(long_gop.read_bytes()[:2000])
    with pytest.raises(VideoError, match="unreadable"):
        probe_video(path)


@pytest.mark.parametrize("name", ["driving_1", "bridge_train_1432", "hd_short_input2"])
def test_windows_of_real_videos_equal_a_sequential_decode(shared_dir, name):
    path = shared_dir / "videos" / f"{name}.mp4"
    probe, truth = probe_video(path), sequential(path, (64, 96))
    assert probe.num_frames == truth.shape[1]
    for start in (0, probe.num_frames // 2, probe.num_frames - 5):
        window = read_frames(path, probe, start=start, num_frames=5, size=(64, 96))
        assert torch.equal(window, truth[:, start : start + 5])

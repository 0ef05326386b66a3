"""Writing video files."""

import numpy as np
import torch

from cosmos_nemo.media.frames import read_frames
from cosmos_nemo.media.probe import probe_video
from data_prep.video import write_video


def test_written_videos_have_their_frames_and_rate(tmp_path):
    path = tmp_path / "a.mp4"
    frames = np.zeros((12, 32, 48, 3), dtype=np.uint8) + (np.arange(12, dtype=np.uint8) * 16 + 20)[:, None, None, None]
    write_video(path, frames, fps=12)
    probe = probe_video(path)
    assert (probe.num_frames, probe.height, probe.width, probe.fps, probe.codec) == (12, 32, 48, 12.0, "h264")
    read = read_frames(path, probe, start=0, num_frames=12)
    assert (read.float().mean(dim=(0, 2, 3)) - torch.tensor(frames.mean(axis=(1, 2, 3)))).abs().max() < 2
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_equal_frames_give_equal_files(tmp_path):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (10, 32, 48, 3), dtype=np.uint8)
    for name in "ab":
        write_video(tmp_path / f"{name}.mp4", frames, fps=12)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()

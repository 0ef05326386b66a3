"""Raw video is remuxed without loss, and encoded to the same bytes every time."""

import av
import pytest
import torch

from cosmos_nemo.media.frames import read_frames
from cosmos_nemo.media.pictures import VideoError
from cosmos_nemo.media.probe import probe_video
from cosmos_nemo.media.writing import write_video
from data_prep.making.mp4 import ENCODING, encode, remux
from tests.media.ramp import moving_ramp


def test_remuxing_keeps_every_frame_and_drops_dates(tmp_path):
    source = write_video(moving_ramp(9), tmp_path / "source.mp4", fps=12)
    for name in "ab":
        remux(source, tmp_path / f"{name}.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    before, after = (
        read_frames(path, probe_video(path), start=0, num_frames=9) for path in (source, tmp_path / "a.mp4")
    )
    assert torch.equal(before, after)


def test_what_is_no_video_cannot_be_remuxed(tmp_path):
    (tmp_path / "source.mp4").write_bytes(b"words")
    with pytest.raises(VideoError, match="unreadable"):
        remux(tmp_path / "source.mp4", tmp_path / "a.mp4")


def test_encoding_gives_the_same_bytes_and_a_keyframe_at_the_interval(tmp_path):
    for name in "ab":
        encode(iter(moving_ramp(70)), tmp_path / f"{name}.mp4", size=(48, 64), fps=24000 / 1001)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    probe = probe_video(tmp_path / "a.mp4")
    assert (probe.num_frames, probe.codec) == (70, "h264") and probe.fps == pytest.approx(23.976, abs=1e-3)
    assert len(probe.keyframes) >= 70 / ENCODING.keyframe_interval
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert "creation_time" not in container.metadata

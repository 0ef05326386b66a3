"""A probe knows what a file holds, and refuses what is damaged."""

from fractions import Fraction

import pytest

from cosmos_nemo.media.pictures import VideoError
from cosmos_nemo.media.probe import probe_video
from tests.data import videos
from tests.media.conftest import UNEVEN


def test_a_probe_says_what_the_file_is(files):
    probe = probe_video(files["gop"])
    assert (probe.codec, probe.fps, probe.pixel_format, len(probe.keyframes)) == ("h264", 24.0, "yuv420p", 3)
    assert probe.has_constant_rate and probe.duration == Fraction(50, 24)
    uneven = probe_video(files["uneven"])
    assert not uneven.has_constant_rate
    assert [round(float(s) * 1000) for s in uneven.seconds] == UNEVEN
    assert probe_video(files["late start"]).seconds[0] == 0
    assert probe_video(files["webm"]).codec == "vp9", "the codec, not the library that decodes it"


def test_a_picture_at_an_angle_is_refused(files, tmp_path):
    path = videos.remux(files["gop"], tmp_path / "turned.mp4", before=["-display_rotation", "30"])
    with pytest.raises(VideoError, match="not a quarter turn"):
        probe_video(path)


@pytest.mark.parametrize("content", [b"", b"this is no video", b"\0" * 5000])
def test_a_file_that_is_no_video_is_refused(tmp_path, content):
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(VideoError, match="unreadable"):
            probe_video(source)


def test_a_sound_file_and_a_missing_file_are_refused(tmp_path):
    import wave

    path = tmp_path / "sound.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(4000))
    with pytest.raises(VideoError, match="no video stream"):
        probe_video(path)
    with pytest.raises(VideoError, match="No such file"):
        probe_video(tmp_path / "none.mp4")


def test_a_truncated_file_is_refused_wherever_it_ends(files, tmp_path):
    whole = videos.remux(files["gop"], tmp_path / "fast.mp4", "-movflags", "faststart").read_bytes()
    assert probe_video(whole).num_frames == 50
    for end in range(100, len(whole) - 1, 997):
        with pytest.raises(VideoError, match="unreadable"):
            probe_video(whole[:end])
    with pytest.raises(VideoError, match="unreadable"):
        probe_video(files["gop"].read_bytes()[:2000])  # its index is at the end

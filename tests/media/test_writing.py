import hashlib
import itertools
import os

import av
import pytest
import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.media.clips import read_clip
from cosmos_nemo.media.probe import probe_video
from cosmos_nemo.media.writing import Encoding, encode_to, open_writer, write_image, write_video
from data_prep.demo.sample import ENCODING as OF_SCENES
from data_prep.making.mp4 import ENCODING as OF_SHARDS
from tests.media.ramp import moving_ramp


def test_a_written_video_is_h264_with_every_frame(tmp_path):
    frames = moving_ramp(7)
    path = write_video(frames, tmp_path / "deep" / "clip.mp4", fps=12.5)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.height, stream.width, float(stream.average_rate)) == (48, 64, 12.5)
    again = read_clip(path)
    assert again.shape == frames.shape
    assert (again.float() - frames.float()).abs().mean() < 4
    assert os.listdir(path.parent) == ["clip.mp4"]


def test_an_odd_size_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="even size, not 47x64"):
        write_video(moving_ramp(2, height=47), tmp_path / "clip.mp4", fps=8)
    assert not os.listdir(tmp_path)


def test_an_image_round_trips_exactly(tmp_path):
    frame = moving_ramp(1)[0]
    write_image(frame, tmp_path / "picture.png")
    assert torch.equal(read_clip(tmp_path / "picture.png"), frame[None])


def test_equal_frames_give_equal_bytes_where_they_are_to_be_reproducible(tmp_path):
    frames = torch.randint(0, 256, (10, 3, 32, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for name in "ab":
        write_video(frames, tmp_path / f"{name}.mp4", fps=12, encoding=Encoding(reproducible=True))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_frames_given_one_by_one_or_together_give_the_same_file(tmp_path):
    frames = moving_ramp(40)
    write_video(frames, tmp_path / "together.mp4", fps=12, encoding=OF_SHARDS)
    with encode_to(tmp_path / "single.mp4", size=(48, 64), fps=12, encoding=OF_SHARDS) as append:
        for frame in frames:
            append(frame[None])
    assert (tmp_path / "single.mp4").read_bytes() == (tmp_path / "together.mp4").read_bytes()


@pytest.mark.parametrize("interval", [3, 7, 25])
def test_keyframes_are_as_close_as_asked(tmp_path, interval):
    path = write_video(moving_ramp(50), tmp_path / "a.mp4", fps=12, encoding=Encoding(keyframe_interval=interval))
    probe = probe_video(path)
    places = [probe.index_at(pts) for pts in probe.keyframes]
    gaps = [b - a for a, b in itertools.pairwise([*places, 50])]
    assert places[0] == 0 and interval / 2 < max(gaps) <= interval


def test_a_smaller_crf_is_closer_to_the_frames(tmp_path):
    frames = moving_ramp(5)
    errors = []
    for crf in (4, 40):
        path = write_video(frames, tmp_path / f"{crf}.mp4", fps=12, encoding=Encoding(crf=crf))
        errors.append((read_clip(path).float() - frames.float()).abs().mean())
    assert errors[0] < errors[1] / 2


def test_a_failing_writer_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), open_writer(tmp_path / "a.mp4", size=(48, 64), fps=8) as append:
        append(moving_ramp(2))
        raise RuntimeError
    assert not os.listdir(tmp_path)


def test_what_the_encoder_refuses_is_told_with_the_name_of_the_video(tmp_path):
    with pytest.raises(UserError, match=rf"The video {tmp_path}/a\.mp4 cannot be written"):
        write_video(moving_ramp(2), tmp_path / "a.mp4", fps=8, encoding=Encoding(preset="no such preset"))
    assert not os.listdir(tmp_path)


AV = "18.1.0"


@pytest.mark.skipif(av.__version__ != AV, reason=f"the hashes are of PyAV {AV}; another one brings another x264")
@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        (OF_SHARDS, "c33306ba0268fd497b320109a171a4edae542d38eef91f82fd5a0920349e8e3e"),
        (OF_SCENES, "939c09764f02cfe19fa5d68e46319d1a44ef143a613a5ae164d71289f8483959"),
    ],
)
def test_the_bytes_of_shards_and_scenes_are_those_of_the_first_version(tmp_path, encoding, expected):
    path = write_video(moving_ramp(40), tmp_path / "a.mp4", fps=12, encoding=encoding)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == expected

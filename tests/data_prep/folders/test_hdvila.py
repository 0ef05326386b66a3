"""Clips cut out of longer videos."""

import json
import subprocess
import sys
import types
from fractions import Fraction

import imageio_ffmpeg
import pytest
from typer.testing import CliRunner

from cosmos_nemo.errors import UserError
from cosmos_nemo.media.frames import read_frames
from cosmos_nemo.media.probe import probe_video
from data_prep.__main__ import app
from data_prep.folders.hdvila import HdvilaReport, cut_indices, download_originals, has_sound, parse_time, read_clips
from tests.data import videos


def line(video="v1", clip="v1.0.mp4", start="00:00:00.500", end="00:00:01.250", **changes):
    row = {"url": f"https://videos.example/watch?v={video}", "video_id": video, "clip_id": clip, "caption": f" {clip} "}
    return row | {"span_start": start, "span_end": end, "extra": [1, "ä"]} | changes


def write_jsonl(folder, *lines):
    folder.mkdir(exist_ok=True)
    text = "\n".join(entry if isinstance(entry, str) else json.dumps(entry) for entry in lines)
    (folder / "hdvila-100M.jsonl").write_text(text + "\n")


def run(folder, *arguments):
    return CliRunner().invoke(app, ["hdvila", str(folder), *arguments], catch_exceptions=False).output


@pytest.fixture
def folder(tmp_path):
    """Two videos of two seconds at 24 frames per second; the second one has sound."""
    originals = tmp_path / "in" / "videos_orig"
    originals.mkdir(parents=True)
    videos.write(originals / "v1.mp4", videos.noise(48, seed=1))
    silent = videos.write(tmp_path / "silent.mp4", videos.noise(48, seed=2))
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(silent), "-f", "lavfi", "-i", "sine=440:d=2"]
    subprocess.run([*command, "-c:v", "copy", str(originals / "v2.mp4")], check=True, stdin=subprocess.DEVNULL)
    return tmp_path / "in"


def frames_of(path):
    probe = probe_video(path)
    return read_frames(path, probe, start=0, num_frames=probe.num_frames).float(), probe


def assert_same_frames(clip, original):
    """Encoding changes pixels a little; another frame of these videos is a different picture."""
    assert clip.shape == original.shape
    assert ((clip - original).abs().mean(dim=(0, 2, 3)) < 8).all()


def test_times_are_parsed_exactly():
    assert parse_time("00:00:10.5") == Fraction(21, 2)
    assert parse_time("00:00:10.1234") == 10 + Fraction(1234, 10000)
    assert parse_time("01:02:03") == 3723 and parse_time("2:03.25") == 123 + Fraction(1, 4)
    for text in ("10", "a:b:c", "00:00:1e3", ""):
        with pytest.raises(ValueError, match="is not a time"):
            parse_time(text)


def test_clips_are_cut_exactly_and_have_upstreams_names(folder):
    write_jsonl(folder, line(), line("v2", "v2.7.mp4", start="00:00:00.000", end="00:00:00.5"))
    output = run(folder, "--do-clip")
    assert "2 clips" in output and "2 new" in output
    clip, probe = frames_of(folder / "videos" / "v1.0.mp4")
    original, _ = frames_of(folder / "videos_orig" / "v1.mp4")
    assert (probe.num_frames, probe.fps, probe.codec) == (18, 24.0, "h264")
    assert_same_frames(clip, original[:, 12:30])
    clip, _ = frames_of(folder / "videos" / "v2.7.mp4")
    original, _ = frames_of(folder / "videos_orig" / "v2.mp4")
    assert_same_frames(clip, original[:, :12])
    assert has_sound(folder / "videos" / "v2.7.mp4") and not has_sound(folder / "videos" / "v1.0.mp4")
    assert sorted(p.name for p in folder.rglob("*.*") if p.parent.name in ("videos", "metas")) == [
        "v1.0.json",
        "v1.0.mp4",
        "v1.0.txt",
        "v2.7.json",
        "v2.7.mp4",
        "v2.7.txt",
    ]
    assert (folder / "metas" / "v1.0.txt").read_text() == "v1.0.mp4\n"
    assert json.loads((folder / "metas" / "v1.0.json").read_text()) == line()
    assert "2 were there already" in run(folder, "--do-clip")


@pytest.mark.parametrize("fps", [Fraction(24000, 1001), Fraction(30000, 1001)])
def test_spans_rounded_to_milliseconds_give_the_frames_that_were_meant(tmp_path, fps):
    times = [round(1000 * k / fps) for k in range(60)]
    path = videos.write(tmp_path / "v.mp4", videos.noise(60), pts=times)
    probe = probe_video(path)
    for first in range(0, 50, 7):
        start, end = (Fraction(round(1000 * k / fps), 1000) for k in (first, first + 9))
        assert cut_indices(probe, start, end) == list(range(first, first + 9))
    assert cut_indices(probe, Fraction(1), Fraction(99))[-1] == 59


def test_a_broadcast_rate_is_kept(folder):
    rate = Fraction(24000, 1001)
    videos.write(folder / "videos_orig" / "v1.mp4", videos.noise(48), rate=rate)
    write_jsonl(folder, line())
    run(folder, "--do-clip")
    probe = probe_video(folder / "videos" / "v1.0.mp4")
    assert probe.fps == pytest.approx(float(rate), rel=1e-9) and probe.num_frames == 18


def test_a_missing_video_shifts_nothing(folder):
    write_jsonl(folder, line("gone", "gone.0.mp4"), line(), line("v2", "v2.7.mp4"))
    (folder / "videos_orig" / ".v0.part").write_bytes(b"a partial download")
    output = run(folder, "--do-clip")
    assert "2 clips" in output and "skipped gone.0: videos_orig/gone.mp4 is missing" in output
    clip, _ = frames_of(folder / "videos" / "v2.7.mp4")
    original, _ = frames_of(folder / "videos_orig" / "v2.mp4")
    assert_same_frames(clip, original[:, 12:30])
    assert not (folder / "metas" / "gone.0.txt").exists()


def test_bad_lines_and_videos_are_told_and_the_rest_is_done(folder):
    lines = ["{", line(caption=" "), line(end="00:00:00.1"), line("../v1"), line(clip="x.avi"), line(start="soon")]
    lines += [line("v2", "late.mp4", end="00:01:00.0"), line()]
    write_jsonl(folder, *lines)
    output = run(folder, "--do-clip")
    for text in ("line 1: is not JSON", "line 2: has no caption", "line 3: ends at 00:00:00.1, before it starts"):
        assert text in output
    for text in (
        "line 4: video_id '../v1' is not a file name",
        "line 5: clip_id x.avi",
        "line 6: 'soon' is not a time",
    ):
        assert text in output
    assert "skipped late: ends at 60.000 s, but its video ends at 2.000 s" in output and "1 clips" in output


def test_the_first_clip_of_each_of_n_videos_is_taken(folder):
    write_jsonl(folder, line(), line(clip="v1.1.mp4"), line("v2", "v2.0.mp4"), line("v3", "v3.0.mp4"), "{never read")
    report = HdvilaReport()
    clips = read_clips(folder / "hdvila-100M.jsonl", num_videos=2, report=report)
    assert [clip.clip_id for clip in clips] == ["v1.0.mp4", "v2.0.mp4"] and not report.bad


def test_downloads_fill_the_folder_and_failures_leave_nothing(folder, monkeypatch):
    content = (folder / "videos_orig" / "v1.mp4").read_bytes()

    class Stream:
        def __init__(self, url):
            self.url = url

        def download(self, output_path, filename):
            with open(f"{output_path}/{filename}", "wb") as file:
                file.write(content[: len(content) // 2 if "half" in self.url else None])
            if "broken" in self.url:
                raise ConnectionError("line dropped")

    class YouTube:
        def __init__(self, url):
            if "bad" in url:
                raise ValueError("no such video")
            self.streams = types.SimpleNamespace(get_highest_resolution=lambda: None if "none" in url else Stream(url))

    monkeypatch.setitem(sys.modules, "pytubefix", types.SimpleNamespace(YouTube=YouTube))
    ids = ["v1", "new", "bad", "broken", "half", "none"]
    write_jsonl(folder, *(line(name, f"{name}.0.mp4") for name in ids))
    output = run(folder, "--do-download")
    assert "2 videos" in output and "1 new, 1 were there already, 4 skipped" in output and "line dropped" in output
    assert sorted(p.name for p in (folder / "videos_orig").iterdir()) == ["new.mp4", "v1.mp4", "v2.mp4"]
    assert not (folder / "videos").exists()


def test_what_is_missing_is_explained(folder, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="give --do-clip, --do-download, or both"):
        run(folder)
    with pytest.raises(UserError, match="does not exist; `python -m data_prep download hdvila` fetches it"):
        run(folder, "--do-clip")
    write_jsonl(folder, line("gone", "gone.0.mp4"))
    with pytest.raises(UserError, match="none of 1 clips could be cut"):
        run(folder, "--do-clip")
    with pytest.raises(UserError, match="--n-videos 0"):
        run(folder, "--do-clip", "--n-videos", "0")
    monkeypatch.setitem(sys.modules, "pytubefix", None)
    with pytest.raises(UserError, match="needs pytubefix"):
        download_originals(folder, [], report=HdvilaReport())
    write_jsonl(folder, "{")
    with pytest.raises(UserError, match=r"no line of .* can be used: line 1"):
        run(folder, "--do-clip")


def test_what_a_killed_run_left_is_removed(folder):
    write_jsonl(folder, line())
    for name in ("videos/.tmp-v1.0.mp4.part", "metas/.tmp-v1.0.txt.part"):
        (folder / name).mkdir(parents=True)
        (folder / name / ".silent.mp4").write_bytes(b"half")
    run(folder, "--do-clip")
    assert sorted(file.name for name in ("videos", "metas") for file in (folder / name).iterdir()) == [
        "v1.0.json",
        "v1.0.mp4",
        "v1.0.txt",
    ]

"""The embedded example dataset."""

import pytest

from cosmos_nemo.errors import UserError
from cosmos_nemo.media.probe import probe_video
from data_prep.demo.options import SampleOptions
from data_prep.demo.sample import write_sample

SMALL = {"num_videos": 6, "num_frames": 6, "height": 32, "width": 48}


def contents(folder):
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_the_layout_is_upstreams_with_every_kind_of_scene(tmp_path):
    seen = []
    assert write_sample(tmp_path / "a", SampleOptions(**SMALL), on_video=seen.append) == 6
    videos = sorted((tmp_path / "a" / "videos").glob("*.mp4"))
    captions = sorted((tmp_path / "a" / "metas").glob("*.txt"))
    assert [f.stem for f in videos] == [f.stem for f in captions] == sorted(seen)
    assert {f.stem.rsplit("_", 1)[0] for f in videos} == {
        "bouncing_ball",
        "pendulum",
        "collision",
        "incline",
        "projectile",
    }
    assert all(file.read_text().strip() for file in captions)
    probe = probe_video(videos[0])
    assert (probe.num_frames, probe.height, probe.width, probe.codec, probe.fps) == (6, 32, 48, "h264", 16.0)


def test_equal_seeds_give_equal_files_and_others_differ(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_sample(tmp_path / name, SampleOptions(**SMALL, seed=seed))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a")["videos/pendulum_0001.mp4"] != contents(tmp_path / "c")["videos/pendulum_0001.mp4"]


def test_an_interrupted_call_is_completed(tmp_path):
    write_sample(tmp_path / "a", SampleOptions(**SMALL))
    before = contents(tmp_path / "a")
    (tmp_path / "a" / "videos" / "incline_0003.mp4").unlink()
    (tmp_path / "a" / "metas" / "pendulum_0001.txt").unlink()
    write_sample(tmp_path / "a", SampleOptions(**SMALL))
    assert contents(tmp_path / "a") == before


def test_other_settings_or_other_files_are_not_touched(tmp_path):
    write_sample(tmp_path / "a", SampleOptions(**SMALL))
    with pytest.raises(UserError, match="seed was 0, now 5"):
        write_sample(tmp_path / "a", SampleOptions(**SMALL, seed=5))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty"):
        write_sample(tmp_path / "b", SampleOptions(**SMALL))
    assert [f.name for f in (tmp_path / "b").iterdir()] == ["mine.txt"]


def test_what_a_killed_call_left_is_removed(tmp_path):
    write_sample(tmp_path / "whole", SampleOptions(**SMALL))
    (tmp_path / "killed" / ".tmp-sample.json.part").mkdir(parents=True)  # before anything else was written
    write_sample(tmp_path / "killed", SampleOptions(**SMALL))
    for name in ("sample.json", "videos/pendulum_0001.mp4", "metas/pendulum_0001.txt"):
        place = tmp_path / "killed" / name
        half = place.with_name(f".tmp-{place.name}.part")
        half.mkdir()
        (half / place.name).write_text("half")
    write_sample(tmp_path / "killed", SampleOptions(**SMALL))
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")

"""Frames as image datasets."""

import pytest
from typer.testing import CliRunner

from cosmos_nemo.errors import UserError
from cosmos_nemo.media.frames import read_indices
from cosmos_nemo.media.pictures import read_image
from cosmos_nemo.media.probe import probe_video
from data_prep.__main__ import app
from data_prep.folders.images import extract_images
from tests.data_prep.conftest import add_clip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    for index, stem in enumerate("ab"):
        add_clip(tmp_path / "in", stem, num_frames=7, seed=index)
    return tmp_path / "in"


def test_every_nth_frame_becomes_an_image_with_its_videos_caption(folder, tmp_path):
    result = CliRunner().invoke(app, ["extract-images", str(folder), str(tmp_path / "out"), "--stride", "3"])
    assert "6 images" in result.output and "6 of them new" in result.output
    names = [f"{stem}_{number:08d}" for stem in "ab" for number in range(3)]
    assert sorted(f.name for f in (tmp_path / "out" / "images").iterdir()) == [f"{name}.jpg" for name in names]
    assert (tmp_path / "out" / "metas" / "b_00000002.txt").read_text() == "a ball called b\n"
    path = folder / "videos" / "b.mp4"
    truth = read_indices(path, probe_video(path), [0, 3, 6])
    for number in range(3):
        image = read_image(tmp_path / "out" / "images" / f"b_{number:08d}.jpg")
        assert (image.float() - truth[:, number].float()).abs().mean() < 3
        assert (image.float() - truth[:, (number + 1) % 3].float()).abs().mean() > 30


def test_an_interrupted_run_is_completed_to_the_same_files(folder, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    extract_images(folder, whole, stride=2)
    extract_images(folder, parts, stride=2)
    (parts / "images" / "a_00000001.jpg").unlink()
    (parts / "metas" / "a_00000003.txt").unlink()
    assert extract_images(folder, parts, stride=2).written == 1
    for file in whole.rglob("*.*"):
        assert (parts / file.relative_to(whole)).read_bytes() == file.read_bytes()


def test_a_bad_video_and_a_missing_caption_are_told(folder, tmp_path):
    (folder / "videos" / "c.mp4").write_bytes(b"no video")
    (folder / "metas" / "a.txt").unlink()
    report = extract_images(folder, tmp_path / "out", stride=4)
    assert report.without_caption == ["a", "c"] and list(report.bad) == ["c"] and report.images == 4
    assert not (tmp_path / "out" / "metas" / "a_00000000.txt").exists()


def test_bad_options(folder, tmp_path):
    with pytest.raises(UserError, match="--stride 0"):
        extract_images(folder, tmp_path / "out", stride=0)
    with pytest.raises(UserError, match="is the folder of the videos"):
        extract_images(folder, folder, stride=1)
    for path in (folder / "videos").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"no video of .* gave an image: unreadable"):
        extract_images(folder, tmp_path / "none", stride=1)


def test_what_a_killed_run_left_is_removed(folder, tmp_path):
    extract_images(folder, tmp_path / "out", stride=3)
    names = sorted(file.name for file in (tmp_path / "out").rglob("*"))
    for name in ("images/.tmp-a_00000000.jpg.part", "metas/.tmp-a_00000000.txt.part"):
        (tmp_path / "out" / name).mkdir()
    extract_images(folder, tmp_path / "out", stride=3)
    assert sorted(file.name for file in (tmp_path / "out").rglob("*")) == names

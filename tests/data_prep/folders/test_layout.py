"""Videos and images are found, or it is said what is expected."""

import pytest

from cosmos_nemo.errors import UserError
from data_prep.folders.layout import find_media


@pytest.fixture
def folder(tmp_path):
    for name in (
        "videos/a.mp4",
        "videos/b.MP4",
        "videos/.tmp-c.mp4",
        "videos/notes.txt",
        "images/d.jpg",
        "images/e.png",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_videos_are_found_by_stem_and_hidden_files_are_not(folder):
    assert {stem: path.name for stem, path in find_media(folder, images=False).items()} == {"a": "a.mp4", "b": "b.MP4"}


def test_images_are_taken_if_there_are_any(folder, tmp_path):
    assert set(find_media(folder, images=True)) == {"d", "e"}
    for file in (folder / "images").iterdir():
        file.unlink()
    (folder / "images").rmdir()
    assert set(find_media(folder, images=True)) == {"a", "b"}


def test_videos_may_lie_in_the_folder_itself(tmp_path):
    (tmp_path / "a.mp4").touch()
    assert set(find_media(tmp_path, images=False)) == {"a"}


def test_a_folder_without_videos_says_what_is_expected(tmp_path):
    with pytest.raises(UserError, match=r"no .mp4 file in .*; expected .*videos/NAME.mp4 and .*metas/NAME.txt"):
        find_media(tmp_path, images=False)
    (tmp_path / "videos").mkdir()
    with pytest.raises(UserError, match=r"no .mp4 file in .*videos; expected .*videos/NAME.mp4$"):
        find_media(tmp_path, images=False, captions=False)
    with pytest.raises(UserError, match="nowhere does not exist"):
        find_media(tmp_path / "nowhere", images=False)


def test_two_files_for_one_caption_are_refused(folder):
    (folder / "videos" / "a.MP4").touch()
    with pytest.raises(UserError, match=r"share the caption a.txt; rename one"):
        find_media(folder, images=False)

import os

import pytest

from cosmos_nemo.errors import UserError
from cosmos_nemo.files import staged


def names(folder):
    return sorted(os.listdir(folder))


def test_a_file_appears_when_it_is_whole(tmp_path):
    with staged(tmp_path / "deep" / "out.txt") as temporary:
        temporary.write_text("new")
        assert not (tmp_path / "deep" / "out.txt").exists()
        assert temporary.suffix == ".txt"
    assert (tmp_path / "deep" / "out.txt").read_text() == "new"
    assert names(tmp_path / "deep") == ["out.txt"]


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_failure_leaves_what_was_there(tmp_path, is_folder):
    target = tmp_path / "target"
    if is_folder:
        target.mkdir()
        (target / "old").write_text("old")
    else:
        target.write_text("old")
    with pytest.raises(RuntimeError), staged(target, overwrite=True) as temporary:
        temporary.mkdir() if is_folder else temporary.write_text("half")
        raise RuntimeError
    assert names(tmp_path) == ["target"]
    assert (target / "old" if is_folder else target).read_text() == "old"


def test_an_existing_target_is_refused_unless_it_may_be_replaced(tmp_path):
    target = tmp_path / "out.txt"
    target.write_text("old")
    with pytest.raises(UserError, match=r"out\.txt exists already; .*--overwrite"), staged(target):
        raise AssertionError("must not be entered")
    with staged(target, overwrite=True) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"


def test_a_folder_replaces_a_folder(tmp_path):
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old").touch()
    with staged(target, overwrite=True) as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
    assert names(target) == ["new"] and names(tmp_path) == ["folder"]


def test_an_impossible_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"Cannot create the folder .*file/below"), staged(tmp_path / "file/below/x"):
        pass

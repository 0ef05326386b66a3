import fcntl
import os
import subprocess
import sys

import pytest

from cosmos_nemo.errors import UserError
from cosmos_nemo.files import remove_debris, staged, write_bytes, write_json, write_text


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
    with pytest.raises(UserError, match=r"Cannot write in the folder .*file/below"), staged(tmp_path / "file/below/x"):
        pass


KILLED = """
import os, signal, sys
from pathlib import Path
from cosmos_nemo import files

target, moment = Path(sys.argv[1]), sys.argv[2]
replace = os.replace

def killed(source, goal):
    replace(source, goal)
    os.kill(os.getpid(), signal.SIGKILL)

with files.staged(target, overwrite=True) as temporary:
    temporary.mkdir()
    (temporary / "half").touch()
    if moment == "writing":
        os.kill(os.getpid(), signal.SIGKILL)
    os.replace = killed  # after the old folder is set aside, before the new one has its name
"""


def kill_while(moment, target):
    result = subprocess.run([sys.executable, "-c", KILLED, str(target), moment])
    assert result.returncode == -9, "the process must not come to an end"


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path):
    target = tmp_path / "target"
    target.write_text("old")
    kill_while("writing", target)
    assert names(tmp_path) == [".tmp-target.part", "target"] and target.read_text() == "old"
    with staged(target, overwrite=True) as temporary:
        assert not temporary.exists()
        temporary.write_text("new")
    assert names(tmp_path) == ["target"] and target.read_text() == "new"


def test_a_folder_that_a_killed_process_had_set_aside_comes_back(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "old").touch()
    kill_while("renaming", target)
    assert names(tmp_path) == [".tmp-target.part"]
    with pytest.raises(UserError, match="exists already"), staged(target):
        raise AssertionError("must not be entered")
    assert names(tmp_path) == ["target"] and names(target) == ["old"]


def test_debris_of_killed_processes_is_removed_and_that_of_live_ones_stays(tmp_path):
    kill_while("writing", tmp_path / "dead")
    (tmp_path / "aside").mkdir()
    kill_while("renaming", tmp_path / "aside")
    with staged(tmp_path / "live") as temporary, staged(tmp_path / "live") as second:
        temporary.write_text("first")
        second.write_text("second")
        remove_debris(tmp_path, tmp_path / "no such folder")
        assert temporary.read_text() == "first" and second.read_text() == "second"
        assert [name for name in names(tmp_path) if not name.startswith(".tmp-live")] == ["aside"]
    assert names(tmp_path) == ["aside", "live"]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    target = tmp_path / "target"
    with staged(target, overwrite=True) as first:
        first.write_text("first")
        with staged(target, overwrite=True) as second:
            second.write_text("second")
        assert first.read_text() == "first" and target.read_text() == "second"
    assert target.read_text() == "first" and names(tmp_path) == ["target"]


def test_a_file_system_without_locks_serves_as_well(tmp_path, monkeypatch):
    def flock(*args):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    write_text(tmp_path / "target", "new")
    assert (tmp_path / "target").read_text() == "new" and names(tmp_path) == ["target"]


def test_text_bytes_and_json_are_written_as_they_are(tmp_path):
    write_text(tmp_path / "text", "\u00e4\n")
    write_bytes(tmp_path / "bytes", b"\0\r\n")
    write_json(tmp_path / "json", {"b": 1, "a": None})
    assert (tmp_path / "text").read_bytes() == b"\xc3\xa4\n"
    assert (tmp_path / "bytes").read_bytes() == b"\0\r\n"
    assert (tmp_path / "json").read_text() == '{\n  "b": 1,\n  "a": null\n}\n'
    assert names(tmp_path) == ["bytes", "json", "text"]

"""Tars depend on their members alone; a new dataset appears whole or not at all."""

import hashlib
import os
import tarfile

import pytest

from cosmos_nemo.errors import UserError
from cosmos_nemo.files import file_sha256
from data_prep.datasets.files import new_dataset, tar_record, write_samples, write_tar
from data_prep.datasets.reading import RawSample


def test_equal_members_give_equal_bytes_whoever_wrote_their_files(tmp_path):
    media = tmp_path / "media"
    media.write_bytes(b"frames")
    os.chmod(media, 0o600)
    write_tar(tmp_path / "a.tar", [("1.json", b"{}"), ("1.mp4", media)])
    write_tar(tmp_path / "b.tar", [("1.json", b"{}"), ("1.mp4", b"frames")])
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert [(m.name, m.mtime, m.uid, m.mode) for m in tar] == [("1.json", 0, 0, 0o644), ("1.mp4", 0, 0, 0o644)]
        assert tar.extractfile("1.mp4").read() == b"frames"


def test_without_members_nothing_is_written(tmp_path):
    write_tar(tmp_path / "a.tar", iter(()))
    record = tar_record(tmp_path / "a.tar", split="train", samples=0)
    assert (record.bytes, record.samples, record.sha256) == (0, 0, hashlib.sha256().hexdigest())
    assert os.listdir(tmp_path) == []


def test_a_failing_member_leaves_what_was_there(tmp_path):
    def failing():
        yield "1.json", b"{}"
        raise KeyboardInterrupt

    write_tar(tmp_path / "a.tar", [("old", b"")])
    before = (tmp_path / "a.tar").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_tar(tmp_path / "a.tar", failing())
    assert os.listdir(tmp_path) == ["a.tar"] and (tmp_path / "a.tar").read_bytes() == before


def test_samples_are_written_with_their_parts_and_counted(tmp_path):
    samples = [RawSample(shard=None, key=key, parts={"json": b"{}", "mp4": key.encode()}) for key in ("x", "y")]
    record = write_samples(tmp_path / "a.tar", samples, split="val", prefix="d1_")
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert tar.getnames() == ["d1_x.json", "d1_x.mp4", "d1_y.json", "d1_y.mp4"]
    assert (record.name, record.split, record.samples) == ("a.tar", "val", 2)
    assert record.sha256 == file_sha256(tmp_path / "a.tar") and record.bytes == (tmp_path / "a.tar").stat().st_size


def test_a_dataset_that_fails_leaves_nothing_and_an_existing_one_is_refused(tmp_path):
    with pytest.raises(RuntimeError), new_dataset(tmp_path / "set") as place:
        (place / "half").touch()
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    with new_dataset(tmp_path / "set") as place:
        (place / "whole").touch()
    with pytest.raises(UserError, match="exists already; use another folder"), new_dataset(tmp_path / "set"):
        raise AssertionError("must not be entered")
    assert os.listdir(tmp_path / "set") == ["whole"]

"""Clips cut out of video files as they are read."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

from cosmos_nemo.data import loader
from cosmos_nemo.data.batch import VideoBatch
from cosmos_nemo.data.dataset import open_manifest
from cosmos_nemo.data.encoders import SkippedSamples
from cosmos_nemo.data.raw_video import RawVideoTaskEncoder
from cosmos_nemo.data.schema import VideoSample
from cosmos_nemo.data.window import ClipWindow
from cosmos_nemo.errors import UserError
from cosmos_nemo.lightning.stream import TimedStream
from tests.data.shards import write_dataset
from tests.data.videos import clip_files, whole_picture

WINDOW = ClipWindow(num_frames=5, height=16, width=16)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return clip_files(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def bare(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the published guide describes, and its missing step 2."""
    folder = tmp_path_factory.mktemp("bare")
    for name, keys in (("000000.tar", "abc"), ("000001.tar", "def")):
        with tarfile.open(folder / name, "w") as tar:
            for key in keys:
                path = folder / f"{key}.mp4"
                path.write_bytes(files[key])
                tar.add(path, arcname=path.name)
                path.unlink()
    with pytest.raises(UserError, match="tars without an index; make it with `energon prepare") as error:
        open_manifest(folder)
    command = str(error.value).partition("`")[2].rstrip("`").replace("99,1,0", "1,1,0").split()
    subprocess.run([sys.executable, "-m", "megatron.energon.cli.main", *command[1:]], check=True, capture_output=True)
    return folder


def encoder(window: ClipWindow) -> Any:
    return functools.partial(RawVideoTaskEncoder, window=window, seed=3)


def read(path: Path, count: int, *, window: ClipWindow = WINDOW, state: Any = None, **settings: Any) -> Any:
    """The next batches, and the position after them."""
    reader = loader.train_loader(path, encoder(window), **settings)
    if state is not None:
        reader.restore_state_rank(state)
    stream = TimedStream(reader)
    batches = list(itertools.islice(stream, count))
    position = reader.save_state_rank()
    stream.close()  # else the end of each worker is waited for, later on
    return batches, position


def test_bare_folder_of_tars_is_read_and_each_pass_cuts_anew(bare: Path) -> None:
    batches: list[VideoBatch] = read(bare, 6)[0]
    keys = [batch.keys[0] for batch in batches]
    assert sorted(keys[:3]) == sorted(keys[3:]) and len(set(keys)) == 3  # one of two tars is for training
    first, second = ({b.keys[0]: b for b in part} for part in (batches[:3], batches[3:]))
    assert any(not torch.equal(first[k].video_B_3_T_H_W, second[k].video_B_3_T_H_W) for k in first)
    assert batches[0].pixels().min() >= -1 and batches[0].pixels().max() <= 1
    validation = loader.val_loader(bare, encoder(WINDOW.still()))
    assert validation is not None and len(list(validation)) == 3


def test_same_clips_with_any_number_of_readers(bare: Path) -> None:
    """The first passes end together: three files, read by one reader or by three."""
    alone = {(b.keys[0], int(b.start_B[0])) for b in read(bare, 9)[0]}
    shared = {(b.keys[0], int(b.start_B[0])) for r in range(3) for b in read(bare, 3, dp_rank=r, dp_size=3)[0]}
    assert alone == shared


@pytest.mark.parametrize("num_workers", [0, 2])
def test_position_is_restored_to_the_clip(bare: Path, num_workers: int) -> None:
    settings = {"num_workers": num_workers, "shuffle_buffer_size": 2}
    straight, _ = read(bare, 9, **settings)
    _, position = read(bare, 5, **settings)
    rest, _ = read(bare, 4, state=position, **settings)
    for found, expected in zip(rest, straight[5:], strict=True):
        assert found.keys == expected.keys and torch.equal(found.video_B_3_T_H_W, expected.video_B_3_T_H_W)


def test_bad_files_are_skipped_and_counted_and_nothing_but_bad_files_stops(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media = {"a": files["a"], "broken": b"no video", "c": files["c"]}
    samples = [VideoSample(key=key, media=content) for key, content in media.items()]
    fields = {"task": "tokenizer", "kind": "video", "num_frames": None, "height": None, "width": None, "fps": None}
    fields |= {"latent_shape": None, "latent_dtype": None, "text_width": None, "text_length": None}
    path = write_dataset(tmp_path / "d", {"train-0.tar": samples}, **fields, video_tokenizer=None, text_encoder=None)
    skipped = SkippedSamples()
    window = whole_picture(num_frames=6)  # "c" has 5
    batches, _ = read(path, 3, window=window, skipped=skipped)
    assert {batch.keys[0] for batch in batches} == {"a"} and skipped.count >= 4
    monkeypatch.setattr(SkippedSamples, "limit_in_a_row", 7)
    with pytest.raises(UserError, match="7 samples in a row could not be read"):
        read(path, 1, window=whole_picture(num_frames=99))


def test_other_kinds_of_index_and_missing_tars_are_said_in_one_line(bare: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(bare, tmp_path / "copy")
    (copy / "000001.tar").unlink()
    with pytest.raises(UserError, match=r"000001\.tar is missing"):
        open_manifest(copy)
    (copy / ".nv-meta/dataset.yaml").write_text("__module__: megatron.energon\n__class__: ImageWebdataset\n")
    with pytest.raises(UserError, match="indexed as ImageWebdataset"):
        open_manifest(copy)

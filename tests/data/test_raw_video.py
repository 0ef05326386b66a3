"""Clips cut out of video files as they are read."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosmos_nemo.data import loader
from cosmos_nemo.data.raw_video import ClipWindow, RawVideoTaskEncoder, VideoBatch, cut
from cosmos_nemo.data.schema import VideoSample
from cosmos_nemo.errors import UserError
from cosmos_nemo.lightning.stream import TimedStream
from cosmos_nemo.media.pictures import VideoError
from tests.data.shards import write_dataset
from tests.data.videos import noise, write

WINDOW = ClipWindow(num_frames=5, height=16, width=16)
LENGTHS = {"a": 12, "b": 9, "c": 5, "d": 7, "e": 20, "f": 11}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("videos")
    written = {key: write(folder / f"{key}.mp4", noise(n, seed=n)) for key, n in LENGTHS.items()}
    return {key: path.read_bytes() for key, path in written.items()}


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
        loader.open_dataset(folder)
    command = str(error.value).partition("`")[2].rstrip("`").replace("99,1,0", "1,1,0").split()
    subprocess.run([sys.executable, "-m", "megatron.energon.cli.main", *command[1:]], check=True, capture_output=True)
    return folder


def sample(files: dict[str, bytes], key: str) -> VideoSample:
    return VideoSample(key=key, media=files[key])


def keep_all(**changes: Any) -> ClipWindow:
    return ClipWindow(**({"num_frames": 5, "height": 32, "width": 48} | changes))


def test_clip_is_the_file_from_its_first_frame_on(files: dict[str, bytes]) -> None:
    clip = cut(sample(files, "a"), keep_all(), seed=0, pass_index=0)
    whole = cut(sample(files, "a"), keep_all(num_frames=12), seed=0, pass_index=0).video_3_T_H_W
    assert clip.video_3_T_H_W.shape == (3, 5, 32, 48)
    assert torch.equal(clip.video_3_T_H_W, whole[:, clip.start : clip.start + 5])
    error = np.abs(whole.permute(1, 2, 3, 0).numpy().astype(int) - noise(12, seed=12).astype(int))
    assert error.mean() < 25, "the frames are those that were written, up to compression"


def test_every_start_and_place_occurs_and_nothing_outside(files: dict[str, bytes]) -> None:
    one = sample(files, "b")
    starts = {cut(one, WINDOW, seed=0, pass_index=p).start for p in range(60)}
    assert starts == set(range(LENGTHS["b"] - 5 + 1))
    exact = sample(files, "c")  # as long as a clip
    assert cut(exact, WINDOW, seed=0, pass_index=0).start == 0


def test_draws_depend_on_seed_sample_and_pass_only(files: dict[str, bytes]) -> None:
    one = sample(files, "e")
    same = [cut(one, WINDOW, seed=1, pass_index=2).video_3_T_H_W for _ in range(2)]
    assert torch.equal(*same)
    others = [cut(one, WINDOW, seed=s, pass_index=p).video_3_T_H_W for s, p in ((2, 2), (1, 3))]
    assert not any(torch.equal(same[0], other) for other in others)


def test_turning_around_is_done_as_often_as_asked(files: dict[str, bytes]) -> None:
    one, window = sample(files, "c"), keep_all()
    plain = cut(one, window, seed=0, pass_index=0).video_3_T_H_W
    flipped = cut(one, keep_all(flip_probability=1.0), seed=0, pass_index=0).video_3_T_H_W
    reversed_ = cut(one, keep_all(reverse_probability=1.0), seed=0, pass_index=0).video_3_T_H_W
    assert torch.equal(flipped, plain.flip(3)) and torch.equal(reversed_, plain.flip(1))
    half = keep_all(flip_probability=0.5)
    count = sum(torch.equal(cut(one, half, seed=0, pass_index=p).video_3_T_H_W, plain.flip(3)) for p in range(40))
    assert 10 < count < 30


def test_stride_resize_and_cover(files: dict[str, bytes]) -> None:
    one = sample(files, "e")
    whole = cut(one, keep_all(num_frames=20), seed=0, pass_index=0).video_3_T_H_W
    strided = cut(one, keep_all(stride=3, time="start"), seed=0, pass_index=0)
    assert torch.equal(strided.video_3_T_H_W, whole[:, :13:3]) and strided.fps == pytest.approx(8.0)
    small = cut(one, ClipWindow(num_frames=5, height=8, width=12, resize_short_side=8), seed=0, pass_index=0)
    assert small.video_3_T_H_W.shape == (3, 5, 8, 12)
    covered = cut(one, ClipWindow(num_frames=5, height=16, width=16, space="cover"), seed=0, pass_index=0)
    assert covered.video_3_T_H_W.shape == (3, 5, 16, 16)
    centre = cut(one, ClipWindow(num_frames=4, height=16, width=16).still(), seed=9, pass_index=9)
    assert centre.start == 8 and torch.equal(centre.video_3_T_H_W, whole[:, 8:12, 8:24, 16:32])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_frames": 13}, "12 frames, where a clip takes 13"),
        ({"stride": 4}, r"12 frames, where a clip takes 17 \(num_frames=5, stride=4\)"),
        ({"height": 40}, "32x48 pixels, where clips of 40x48 are cut out"),
    ],
)
def test_files_that_are_too_short_or_too_small_say_so(
    files: dict[str, bytes], changes: dict[str, int], words: str
) -> None:
    with pytest.raises(VideoError, match=words):
        cut(sample(files, "a"), keep_all(**changes), seed=0, pass_index=0)


def test_windows_that_cannot_be_are_refused() -> None:
    for changes in ({"num_frames": 0}, {"flip_probability": 1.5}, {"time": "end"}, {"space": "left"}):
        with pytest.raises(UserError, match=f"{next(iter(changes))}="):
            ClipWindow(**changes)


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
    samples = [sample(files, "a"), VideoSample(key="broken", media=b"no video"), sample(files, "c")]
    fields = {"task": "tokenizer", "kind": "video", "num_frames": None, "height": None, "width": None, "fps": None}
    fields |= {"latent_shape": None, "latent_dtype": None, "text_width": None, "text_length": None}
    path = write_dataset(tmp_path / "d", {"train-0.tar": samples}, **fields, video_tokenizer=None, text_encoder=None)
    skipped = loader.SkippedSamples()
    window = keep_all(num_frames=6)  # "c" has 5
    batches, _ = read(path, 3, window=window, skipped=skipped)
    assert {batch.keys[0] for batch in batches} == {"a"} and skipped.count >= 4
    monkeypatch.setattr(loader.SkippedSamples, "limit_in_a_row", 7)
    with pytest.raises(UserError, match="7 samples in a row could not be read"):
        read(path, 1, window=keep_all(num_frames=99))


def test_other_kinds_of_index_and_missing_tars_are_said_in_one_line(bare: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(bare, tmp_path / "copy")
    (copy / "000001.tar").unlink()
    with pytest.raises(UserError, match=r"000001\.tar is missing"):
        loader.open_dataset(copy)
    (copy / ".nv-meta/dataset.yaml").write_text("__module__: megatron.energon\n__class__: ImageWebdataset\n")
    with pytest.raises(UserError, match="indexed as ImageWebdataset"):
        loader.open_dataset(copy)

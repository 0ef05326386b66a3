from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.lightning.reader_state import from_plain, to_plain
from cosmos_nemo.lightning.stream import TimedStream, state_for_rank
from tests.data.shards import train_loader
from tests.lightning.shards import write_shards


def test_loader_state_goes_through_a_file_without_pickled_classes_and_continues_exactly(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards")
    loader = train_loader(shards, text_length=8, seed=3)
    batches = iter(loader)
    for _ in range(3):
        next(batches)
    file = io.BytesIO()
    torch.save(to_plain(loader.save_state_rank()), file)
    expected = [next(batches).keys for _ in range(12)]
    file.seek(0)
    again = train_loader(shards, text_length=8, seed=3)
    again.restore_state_rank(from_plain(torch.load(file, weights_only=True)))
    batches = iter(again)
    assert [next(batches).keys for _ in range(12)] == expected


def test_two_ranks_continue_as_one_with_the_same_samples(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards")
    two = [TimedStream(train_loader(shards, text_length=8, dp_rank=r, dp_size=2, num_workers=1)) for r in range(2)]
    batches = [iter(stream) for stream in two]
    for _ in range(2):
        [next(rank) for rank in batches]
    states = [from_plain(to_plain(stream.loader.save_state_rank())) for stream in two]
    expected = [next(rank).keys for _ in range(4) for rank in batches]
    merged = TimedStream(train_loader(shards, text_length=8, num_workers=2))
    merged.loader.restore_state_rank(state_for_rank(states, rank=0, size=1, num_workers=2))
    stream = iter(merged)
    assert [next(stream).keys for _ in range(8)] == expected
    for reader in (*two, merged):
        reader.close()


def test_values_of_every_kind_come_back() -> None:
    value = {"a": (1, 2.5, None), 3: [b"", b"\x00\xff"], "n": np.arange(6, dtype=np.uint32).reshape(2, 3)}
    back = from_plain(to_plain(value))
    assert back["a"] == value["a"] and back[3] == value[3]
    assert back["n"].dtype == np.uint32 and np.array_equal(back["n"], value["n"])


def test_unknown_class_is_refused_when_saving() -> None:
    with pytest.raises(TypeError, match="does not know how to save"):
        to_plain({"x": object()})


class _State:
    def __init__(self, worker_states: list, next_worker_id: int = 0, micro_batch_size: int = 1) -> None:
        self.worker_states = worker_states
        self.next_worker_id = next_worker_id
        self.micro_batch_size = micro_batch_size


def test_readers_are_dealt_to_another_number_of_ranks_in_order() -> None:
    saved = [_State(["a", "b"]), _State(["c", "d"])]
    assert state_for_rank(saved, rank=1, size=2, num_workers=2) is saved[1]
    assert [state_for_rank(saved, rank=r, size=4, num_workers=1).worker_states for r in range(4)] == [
        ["a"],
        ["b"],
        ["c"],
        ["d"],
    ]
    assert state_for_rank(saved, rank=0, size=1, num_workers=4).worker_states == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("size", "workers", "hint"), [(4, 2, "data.num_workers=1"), (3, 1, "size of 2"), (1, 0, "data.num_workers=4")]
)
def test_readers_that_cannot_be_dealt_are_refused_with_what_would_work(size: int, workers: int, hint: str) -> None:
    saved = [_State(["a", "b"]), _State(["c", "d"])]
    with pytest.raises(UserError, match=hint):
        state_for_rank(saved, rank=0, size=size, num_workers=workers)

"""The world of a command: what is set up, and that nothing is left of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cosmos_nemo.parallel.process import current_sizes, model_parallel_world, process_world, tensor_parallel_group
from cosmos_nemo.parallel.sizes import IndivisibleError, ParallelSizes
from tests.distributed import run_ranks


@pytest.fixture(scope="module")
def ranks() -> list[dict[str, Any]]:
    """What both ranks saw, from one launch."""
    return run_ranks("tests.parallel.ranks:worlds_of_two", 2)


def test_ranks_of_torchrun_meet_and_hand_each_other_values(ranks: list[dict[str, Any]]) -> None:
    for rank, seen in enumerate(ranks):
        assert seen["plain"] == (rank, 2, ParallelSizes(), ["rank 0", "rank 1"])


def test_tensor_parallelism_takes_the_processes_that_the_other_sizes_leave(ranks: list[dict[str, Any]]) -> None:
    for seen in ranks:
        assert seen["tensor"] == (ParallelSizes(tensor_model_parallel_size=2), 1)
        assert seen["context"] == (ParallelSizes(context_parallel_size=2), 1)
        assert seen["data"] == (ParallelSizes(), 2)


def test_sizes_that_do_not_divide_are_refused_before_any_group_is_made(ranks: list[dict[str, Any]]) -> None:
    for seen in ranks:
        message, has_groups = seen["refused"]
        assert message.startswith(
            "context_parallel_size=3 does not divide 2 processes; use context_parallel_size=1 or 2"
        )
        assert message.endswith("start a multiple of 3 processes with torchrun --nproc-per-node.")
        assert not has_groups


def test_world_is_taken_down_at_its_end(ranks: list[dict[str, Any]]) -> None:
    assert not any(seen["joined"] for seen in ranks)


@pytest.fixture
def no_process_group() -> None:
    """Other tests of this process may have left one."""
    from megatron.core import parallel_state

    if torch.distributed.is_initialized():
        parallel_state.destroy_model_parallel()
        torch.distributed.destroy_process_group()


def test_one_process_needs_no_torchrun(no_process_group: None) -> None:
    with process_world() as world:
        assert (world.rank, world.size, world.gather("mine")) == (0, 1, ["mine"])
        assert not torch.distributed.is_initialized()
    with model_parallel_world() as world:
        assert (world.rank, world.size, world.sizes, current_sizes()) == (0, 1, ParallelSizes(), ParallelSizes())
        assert tensor_parallel_group() is not None
    assert tensor_parallel_group() is None and current_sizes() == ParallelSizes()
    assert not torch.distributed.is_initialized()


def test_world_that_is_there_is_used_as_it_is(no_process_group: None) -> None:
    with model_parallel_world(), model_parallel_world() as inner:
        assert inner.size == 1
    with model_parallel_world():
        with model_parallel_world():
            pass
        assert torch.distributed.is_initialized(), "the inner one took down what it had not set up"


def test_pipeline_of_two_on_one_process_says_so(no_process_group: None) -> None:
    with (
        pytest.raises(IndivisibleError, match=r"^pipeline_model_parallel_size=2 does not divide 1 process; use"),
        model_parallel_world(pipeline_model_parallel_size=2),
    ):
        pass
    assert not torch.distributed.is_initialized()


def test_one_place_alone_sets_megatrons_groups_up(repo_root: Path) -> None:
    """NeMo does it itself in training; tests may do it as they need."""
    rooms = ("cosmos_nemo", "recipes", "data_prep", "benchmarks")
    found = [path for room in rooms for path in (repo_root / room).rglob("*.py")]
    assert len(found) > 200
    callers = [path for path in found if "initialize_model_parallel" in path.read_text()]
    assert [str(path.relative_to(repo_root)) for path in callers] == ["cosmos_nemo/parallel/process.py"]

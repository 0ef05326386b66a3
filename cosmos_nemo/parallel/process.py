"""The world of a command that uses a model without a trainer: one process, or the ranks of torchrun."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch.distributed import ProcessGroup

from cosmos_nemo.parallel.sizes import ParallelSizes
from cosmos_nemo.platform.install import install

SEED = 1234
"""Seed of Megatron's random-number tracker; NeMo uses the same. Nothing that is loaded depends on it."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class World:
    """This process's place among all of a command."""

    rank: int
    """Number of this process."""
    size: int
    """Number of processes."""
    device: torch.device
    """Where a model goes."""
    sizes: ParallelSizes
    """How the processes share a network; every size is 1 in a world without Megatron."""

    def gather(self, value: T) -> list[T]:
        """Return every rank's value, in rank order, on every rank."""
        if self.size == 1:
            return [value]
        values = [value] * self.size
        torch.distributed.all_gather_object(values, value)
        return values


@contextmanager
def process_world() -> Iterator[World]:
    """Join the processes that torchrun started, if there are several, and set nothing else up.

    Yields:
        the world; NCCL and this process's GPU if there is CUDA, gloo and the CPU otherwise.
    """
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    owned = not alone and _init_process_group()
    try:
        yield _world(ParallelSizes())
    finally:
        if owned:
            torch.distributed.destroy_process_group()


@contextmanager
def model_parallel_world(
    *,
    tensor_model_parallel_size: int | None = None,
    pipeline_model_parallel_size: int = 1,
    context_parallel_size: int = 1,
) -> Iterator[World]:
    """Set up torch.distributed and Megatron's groups, as far as they are not there, and tear down what was set up.

    Args:
        tensor_model_parallel_size: ranks that share every layer; None takes all processes that the other two leave.
        pipeline_model_parallel_size: ranks that hold different layers.
        context_parallel_size: ranks that share the tokens of a sample.

    Yields:
        the world; NCCL and this process's GPU if there is CUDA, gloo and the CPU otherwise.

    Raises:
        UserError: the number of processes is not a multiple of the parallel sizes.
    """
    install()
    owned = _init_process_group()
    from megatron.core import parallel_state

    owns_groups = not parallel_state.model_parallel_is_initialized()
    try:
        if owns_groups:
            sizes = ParallelSizes(
                tensor_model_parallel_size=1 if tensor_model_parallel_size is None else tensor_model_parallel_size,
                pipeline_model_parallel_size=pipeline_model_parallel_size,
                context_parallel_size=context_parallel_size,
            )
            processes = torch.distributed.get_world_size()
            if tensor_model_parallel_size is None:
                sizes = replace(sizes, tensor_model_parallel_size=max(1, processes // sizes.product))
            _init_groups(sizes, processes)
        yield _world(current_sizes())
    finally:
        if owns_groups and parallel_state.model_parallel_is_initialized():
            parallel_state.destroy_model_parallel()
        if owned:
            torch.distributed.destroy_process_group()


def current_sizes() -> ParallelSizes:
    """Return the sizes of Megatron's groups, which a trainer or a command has set up; all 1 where nobody has.

    Whether tokens are cut over tensor-parallel ranks is no business of the groups: `sequence_parallel` is False.
    """
    from megatron.core import parallel_state

    if not parallel_state.model_parallel_is_initialized():
        return ParallelSizes()
    return ParallelSizes(
        tensor_model_parallel_size=parallel_state.get_tensor_model_parallel_world_size(),
        pipeline_model_parallel_size=parallel_state.get_pipeline_model_parallel_world_size(),
        context_parallel_size=parallel_state.get_context_parallel_world_size(),
    )


def tensor_parallel_group() -> ProcessGroup | None:
    """Return the ranks that share every layer with this one; None where nobody has set Megatron's groups up."""
    from megatron.core import parallel_state

    if not parallel_state.model_parallel_is_initialized():
        return None
    return parallel_state.get_tensor_model_parallel_group()


def _init_groups(sizes: ParallelSizes, processes: int) -> None:
    """Cut the processes into Megatron's groups and seed its random-number tracker."""
    from megatron.core import parallel_state, tensor_parallel

    sizes.data_parallel_size(processes, start="with torchrun --nproc-per-node")
    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=sizes.tensor_model_parallel_size,
        pipeline_model_parallel_size=sizes.pipeline_model_parallel_size,
        context_parallel_size=sizes.context_parallel_size,
    )
    tensor_parallel.model_parallel_cuda_manual_seed(SEED)


def _world(sizes: ParallelSizes) -> World:
    """Return this process's place; without a process group it is alone."""
    joined = torch.distributed.is_initialized()
    rank, size = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if joined else (0, 1)
    return World(rank=rank, size=size, device=_device(), sizes=sizes)


def _device() -> torch.device:
    """Return this process's GPU, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def _init_process_group() -> bool:
    """Join torchrun's world, or make one of a single process; return False if there is a process group already."""
    if torch.distributed.is_initialized():
        return False
    device = _device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        torch.distributed.init_process_group(backend)
    else:  # a store in memory: needs no port, so nothing can collide with another process
        torch.distributed.init_process_group(backend, store=torch.distributed.HashStore(), rank=0, world_size=1)
    return True

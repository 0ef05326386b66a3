"""A Megatron process world for commands that use a model without a trainer: one process, or the ranks of torchrun."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.platform.install import install

SEED = 1234
"""Seed of Megatron's random-number tracker; NeMo uses the same. Nothing that is loaded depends on it."""


@dataclass(frozen=True, kw_only=True)
class World:
    """The process world that a model lives in.

    Attributes:
        rank: number of this process.
        size: number of processes.
        device: where the model goes.
    """

    rank: int
    size: int
    device: torch.device


@contextmanager
def model_parallel_world(
    *,
    tensor_model_parallel_size: int | None = None,
    context_parallel_size: int = 1,
    pipeline_model_parallel_size: int = 1,
) -> Iterator[World]:
    """Set up torch.distributed and Megatron's groups, as far as they are not there, and tear down what was set up.

    Args:
        tensor_model_parallel_size: None takes all processes that the other two leave.
        context_parallel_size: ranks that share a sequence.
        pipeline_model_parallel_size: ranks that share the layers.

    Yields:
        the world; NCCL and this process's GPU if there is CUDA, gloo and the CPU otherwise.

    Raises:
        UserError: the number of processes is not a multiple of the parallel sizes.
    """
    install()
    owns_process_group = _init_process_group()
    from megatron.core import parallel_state, tensor_parallel

    owns_model_parallel = not parallel_state.model_parallel_is_initialized()
    try:
        if owns_model_parallel:
            size = torch.distributed.get_world_size()
            others = context_parallel_size * pipeline_model_parallel_size
            tensor = tensor_model_parallel_size or max(1, size // others)
            if size % (tensor * others):
                pipeline = f" x pipeline_model_parallel_size={pipeline_model_parallel_size}"
                raise UserError(
                    f"{size} process(es) cannot hold tensor_model_parallel_size={tensor} x "
                    f"context_parallel_size={context_parallel_size}"
                    f"{pipeline if pipeline_model_parallel_size > 1 else ''}; start a multiple of "
                    f"{tensor * others} with torchrun --nproc-per-node."
                )
            parallel_state.initialize_model_parallel(
                tensor_model_parallel_size=tensor,
                context_parallel_size=context_parallel_size,
                pipeline_model_parallel_size=pipeline_model_parallel_size,
            )
            tensor_parallel.model_parallel_cuda_manual_seed(SEED)
        yield World(rank=torch.distributed.get_rank(), size=torch.distributed.get_world_size(), device=_device())
    finally:
        if owns_model_parallel and parallel_state.model_parallel_is_initialized():
            parallel_state.destroy_model_parallel()
        if owns_process_group:
            torch.distributed.destroy_process_group()


def _device() -> torch.device:
    """This process's GPU, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def _init_process_group() -> bool:
    """Join torchrun's world, or make one of a single process; False if there is a process group already."""
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

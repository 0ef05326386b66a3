"""The processes of a golden run: one, or a tensor-parallel group under torchrun."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """This process's place in the run."""

    rank: int
    tensor_model_parallel_size: int
    device: torch.device

    def gather(self, value: T) -> Sequence[T]:
        """Return every rank's value, in rank order, on every rank."""
        if self.tensor_model_parallel_size == 1:
            return [value]
        values: list[T] = [value] * self.tensor_model_parallel_size
        dist.all_gather_object(values, value)
        return values


@contextmanager
def runtime(*, with_networks: bool) -> Iterator[Runtime]:
    """Join the process group that torchrun describes, and set Megatron up at TP = world size.

    What this made it also takes down again, so a run can be followed by another in the same process. A process
    group or Megatron state that exists already is used as it is.

    Args:
        with_networks: whether Megatron is needed; without it (and without torchrun) nothing is set up.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    own_group = not dist.is_initialized() and (with_networks or world_size > 1)
    if own_group:
        store = None if world_size > 1 else dist.HashStore()  # one process needs no port
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size)
    try:
        with _model_parallel(world_size) if with_networks else _nothing():
            yield Runtime(rank=rank, tensor_model_parallel_size=world_size, device=device)
    finally:
        if own_group:
            dist.destroy_process_group()


@contextmanager
def _model_parallel(tensor_model_parallel_size: int) -> Iterator[None]:
    """Megatron's parallel state for the duration."""
    from megatron.core import parallel_state

    from cosmos_nemo.platform.install import install

    install()
    own = not parallel_state.model_parallel_is_initialized()
    if own:
        parallel_state.initialize_model_parallel(tensor_model_parallel_size=tensor_model_parallel_size)
    try:
        yield
    finally:
        if own:
            parallel_state.destroy_model_parallel()


@contextmanager
def _nothing() -> Iterator[None]:
    yield

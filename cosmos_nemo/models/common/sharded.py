"""Tensor-parallel parameters: their marks, their place in a distributed checkpoint, their fresh values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from megatron.core.tensor_parallel.layers import set_tensor_model_parallel_attributes
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_config import TransformerConfig
from megatron.core.utils import make_sharded_tensor_for_checkpoint, make_tp_sharded_tensor_for_checkpoint
from torch import nn
from torch.distributed import ProcessGroup

from cosmos_nemo.numerics.keyed import generator
from cosmos_nemo.parallel.collectives import group_rank, group_size


def mark_tensor_parallel(parameter: nn.Parameter, partition_dim: int) -> None:
    """Says that ``parameter`` is one rank's slice along ``partition_dim``, with Megatron's attributes."""
    if not hasattr(parameter, "partition_dim"):
        set_tensor_model_parallel_attributes(parameter, True, partition_dim, 1)


def partition_dim(parameter: Any) -> int | None:
    """Return the dimension that `mark_tensor_parallel` was called with; None if every rank has the whole parameter."""
    return int(parameter.partition_dim) if getattr(parameter, "tensor_model_parallel", False) else None


def mark_sequence_parallel(parameter: Any, sequence_parallel: bool) -> None:
    """Say whether each tensor-parallel rank uses ``parameter`` on its own tokens: Megatron sums such gradients."""
    parameter.sequence_parallel = sequence_parallel


class ShardedModule(MegatronModule):
    """A Megatron module whose distributed checkpoint follows from the marks on its parameters.

    Megatron's default takes every parameter outside its own layers as replicated and does not look for sharded layers
    inside a ModuleList.
    """

    def sharded_state_dict(self, prefix: str = "", sharded_offsets: tuple = (), metadata: dict | None = None) -> dict:
        """Maps every parameter's key to a Megatron ShardedTensor; readable at any tensor-parallel size."""
        return sharded_state_of(self, prefix, sharded_offsets, metadata)


def sharded_state_of(module: nn.Module, prefix: str, offsets: tuple, metadata: dict | None) -> dict[str, Any]:
    """What `ShardedModule.sharded_state_dict` returns, for any module; its children's own answers are taken."""
    state: dict[str, Any] = {}
    for name, parameter in module.named_parameters(recurse=False):
        key = f"{prefix}{name}"
        dim = partition_dim(parameter)
        if dim is None:
            state[key] = make_sharded_tensor_for_checkpoint(parameter, key, prepend_offsets=offsets)
        else:
            state[key] = make_tp_sharded_tensor_for_checkpoint(parameter, key, dim, prepend_offsets=offsets)
    for name, child in module.named_children():
        own = getattr(child, "sharded_state_dict", None)
        if own is None:
            state |= sharded_state_of(child, f"{prefix}{name}.", offsets, metadata)
        else:
            state |= own(prefix=f"{prefix}{name}.", sharded_offsets=offsets, metadata=metadata)
    # Megatron's linears add an empty `_extra_state` for Transformer Engine's sake; nothing here needs it.
    return {key: value for key, value in state.items() if not key.endswith("_extra_state")}


@contextmanager
def without_initialization(config: TransformerConfig) -> Iterator[None]:
    """Layers built inside allocate their weights and leave them unset (`initialize` fills them)."""
    wanted, config.perform_initialization = config.perform_initialization, False
    try:
        yield
    finally:
        config.perform_initialization = wanted


@torch.no_grad()
def initialize(module: nn.Module, *, seed: int, zeros: str, tp_group: ProcessGroup | None) -> None:
    """Gives every matrix its fresh value; vectors (norm weights) keep theirs.

    Truncated normal, cut at 3 standard deviations of 1 / sqrt(fan_in). The full matrix is drawn from a generator keyed
    by its name and then cut, so the network is the same at any tensor-parallel size.

    Args:
        module: the network.
        seed: the network's seed.
        zeros: ending of the names of matrices that start at zero.
        tp_group: tensor-parallel group.

    Source: Cosmos-Predict2 `init_weights` of its layers.
    """
    for name, parameter in module.named_parameters():
        if parameter.ndim < 2 or parameter.is_meta:
            continue
        if name.endswith(zeros):
            parameter.zero_()
            continue
        shape, dim = list(parameter.shape), partition_dim(parameter)
        if dim is not None:
            shape[dim] *= group_size(tp_group)
        std = shape[-1] ** -0.5
        full = nn.init.trunc_normal_(
            torch.empty(shape), std=std, a=-3 * std, b=3 * std, generator=generator(seed, name)
        )
        if dim is not None:
            full = full.chunk(group_size(tp_group), dim)[group_rank(tp_group)]
        parameter.copy_(full)

"""Linear layers cut over the tensor-parallel group."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.tensor_parallel.layers import ColumnParallelLinear, RowParallelLinear
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor, nn

from cosmos_nemo.models.common.parts import Parts
from cosmos_nemo.models.common.sharded import mark_tensor_parallel, sharded_state_of
from cosmos_nemo.parallel.collectives import group_size
from cosmos_nemo.parallel.groups import Groups


class Column(ColumnParallelLinear):
    """Megatron's layer, with room for adapters and a short way where no gradient is needed.

    Token by token, Megatron's checks and autograd functions take as long as the product itself.
    """

    parts: Parts | None = None
    """What it computes, of layers that can be adapted."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.adapters: nn.Module | None = None
        """Called with the layer's input and output; returns the output with what they add. See `adapters`."""

    def forward(self, input_: Tensor, *args: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
        """Compute as Megatron does, and add what the adapters say."""
        if torch.is_grad_enabled() or self.sequence_parallel:
            y, bias = super().forward(input_, *args, **options)
        else:
            y, bias = F.linear(input_, self.weight), None
        return (y if self.adapters is None else self.adapters(input_, y)), bias

    def sharded_state_dict(
        self, prefix: str = "", sharded_offsets: tuple = (), metadata: dict | None = None
    ) -> dict[str, Any]:
        """Map the weight and the adapters' matrices to Megatron ShardedTensors."""
        return sharded_state_of(self, prefix, sharded_offsets, metadata)


class Row(RowParallelLinear):
    """Megatron's layer, with room for adapters and a short way where no gradient is needed; see `Column`."""

    parts: Parts | None = None
    """See `Column`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.adapters: nn.Module | None = None
        """See `Column`."""

    def forward(self, input_: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute as Megatron does, and add what the adapters say."""
        if torch.is_grad_enabled() or self.sequence_parallel:
            y, bias = super().forward(input_)
        else:
            y, bias = F.linear(input_, self.weight), None
            if group_size(self.tp_group) > 1:
                torch.distributed.all_reduce(y, group=self.tp_group)
        return (y if self.adapters is None else self.adapters(input_, y)), bias

    def sharded_state_dict(
        self, prefix: str = "", sharded_offsets: tuple = (), metadata: dict | None = None
    ) -> dict[str, Any]:
        """Map the weight and the adapters' matrices to Megatron ShardedTensors."""
        return sharded_state_of(self, prefix, sharded_offsets, metadata)


def column_linear(
    config: TransformerConfig,
    groups: Groups,
    inputs: int,
    outputs: int,
    *,
    tokens: bool = True,
    parts: Parts | None = None,
) -> Column:
    """Make a linear layer cut along its outputs.

    Args:
        config: Megatron's settings.
        groups: the process groups it is cut over.
        inputs: width of the input.
        outputs: width of the whole output.
        tokens: whether it acts on video tokens; those on anything else (text, timesteps) stay out of sequence
            parallelism.
        parts: what it computes, if it can be adapted.
    """
    layer = Column(
        inputs, outputs, config=config, init_method=unused_init, bias=False, gather_output=False, tp_group=groups.tp
    )
    _finish(layer, 0, tokens, parts)
    return layer


def row_linear(
    config: TransformerConfig,
    groups: Groups,
    inputs: int,
    outputs: int,
    *,
    tokens: bool = True,
    parts: Parts | None = None,
) -> Row:
    """Make a linear layer cut along its inputs; arguments as in `column_linear`."""
    layer = Row(
        inputs,
        outputs,
        config=config,
        init_method=unused_init,
        bias=False,
        input_is_parallel=True,
        skip_bias_add=False,
        tp_group=groups.tp,
    )
    _finish(layer, 1, tokens, parts)
    return layer


def store_by_inputs(network: nn.Module) -> None:
    """Store the float32 weights on a CPU input by input instead of output by output; their shapes and values stay.

    A product with one token's vector reads every weight once, and CPU libraries read this order faster; products with
    many tokens take the same time either way. For generation, which is all one-token products
    (`benchmarks/ar_decode.py`).

    Args:
        network: its `column_linear` and `row_linear` layers are changed in place; those elsewhere than on a CPU, or in
            another dtype, gain nothing and are left alone.
    """
    for layer in network.modules():
        if isinstance(layer, Column | Row):
            weight = layer.weight.data
            if weight.device.type == "cpu" and weight.dtype is torch.float32:
                layer.weight.data = weight.t().contiguous().t()


def _finish(layer: Column | Row, partition_dim: int, tokens: bool, parts: Parts | None) -> None:
    """Mark the weight, and tell the layer what it acts on and what it computes."""
    mark_tensor_parallel(layer.weight, partition_dim)
    layer.parts = parts
    if not tokens:
        layer.sequence_parallel = False
        layer.allreduce_dgrad = group_size(layer.tp_group) > 1


def unused_init(weight: Tensor) -> None:
    """Stand for the init method that Megatron asks for; weights are filled by `initialize`."""
    raise AssertionError("weights are filled by `initialize`, not by Megatron's layers")

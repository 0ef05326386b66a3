"""Linear layers cut over the tensor-parallel group."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.tensor_parallel.layers import ColumnParallelLinear, RowParallelLinear
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor, nn

from cosmos_nemo.models.common.sharded import mark_tensor_parallel
from cosmos_nemo.parallel.collectives import group_size
from cosmos_nemo.parallel.groups import Groups


class Column(ColumnParallelLinear):
    """Megatron's, with a short way where no gradient is needed.

    Token by token, Megatron's checks and autograd functions take as long as the product itself.
    """

    def forward(self, input_: Tensor, *args: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
        """See Megatron."""
        if torch.is_grad_enabled() or self.sequence_parallel:
            return super().forward(input_, *args, **options)
        return F.linear(input_, self.weight), None


class Row(RowParallelLinear):
    """Megatron's, with a short way where no gradient is needed; see `Column`."""

    def forward(self, input_: Tensor) -> tuple[Tensor, Tensor | None]:
        """See Megatron."""
        if torch.is_grad_enabled() or self.sequence_parallel:
            return super().forward(input_)
        y = F.linear(input_, self.weight)
        if group_size(self.tp_group) > 1:
            torch.distributed.all_reduce(y, group=self.tp_group)
        return y, None


def column_linear(
    config: TransformerConfig, groups: Groups, inputs: int, outputs: int, *, tokens: bool = True
) -> nn.Module:
    """A linear layer cut along its outputs; see `_linear` for ``tokens``."""
    layer = Column(
        inputs, outputs, config=config, init_method=unused_init, bias=False, gather_output=False, tp_group=groups.tp
    )
    return _linear(layer, 0, tokens)


def row_linear(
    config: TransformerConfig, groups: Groups, inputs: int, outputs: int, *, tokens: bool = True
) -> nn.Module:
    """A linear layer cut along its inputs; see `_linear` for ``tokens``."""
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
    return _linear(layer, 1, tokens)


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


def _linear(layer: Any, partition_dim: int, tokens: bool) -> nn.Module:
    """Marks the weight. Layers on anything but video tokens (text, timesteps) stay out of sequence parallelism."""
    mark_tensor_parallel(layer.weight, partition_dim)
    if not tokens:
        layer.sequence_parallel = False
        layer.allreduce_dgrad = group_size(layer.tp_group) > 1
    return layer


def unused_init(weight: Tensor) -> None:
    """Stands for the init method that Megatron asks for; weights are filled by `initialize`."""
    raise AssertionError("weights are filled by `initialize`, not by Megatron's layers")

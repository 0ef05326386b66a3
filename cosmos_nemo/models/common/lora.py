"""Low-rank adapters on tensor-parallel linear layers: added, trained beside a frozen network, merged into it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from megatron.core.dist_checkpointing.mapping import ShardedTensorFactory
from megatron.core.tensor_parallel.layers import ColumnParallelLinear, RowParallelLinear
from megatron.core.transformer.mlp import apply_swiglu_sharded_factory
from torch import Tensor, nn

from cosmos_nemo.errors import UserError
from cosmos_nemo.models.common.sharded import mark_tensor_parallel, sharded_state_of
from cosmos_nemo.numerics.keyed import generator
from cosmos_nemo.parallel.collectives import (
    gather_tokens_for_split_use,
    group_rank,
    group_size,
    reduce_scatter_tokens,
    sum_forward,
    sum_gradient,
)

TARGETS = ("linear_qkv", "linear_q", "linear_kv", "linear_proj", "linear_fc1", "linear_fc2")
"""Every linear layer inside a transformer layer."""


@dataclass(kw_only=True)
class LoRA:
    """Adapters: y = W x + (alpha / rank) B A x, with W frozen. Source: Hu et al. 2021, arXiv:2106.09685."""

    rank: int = 16
    """Rows of A, columns of B."""
    alpha: float = 16.0
    """Scale of the adapters, in units of 1 / rank."""
    targets: tuple[str, ...] = TARGETS
    """Names of the layers that are adapted, the last part of their path."""
    seed: int = 0
    """Of the fresh A; B starts at zero, so a fresh adapter changes nothing."""

    def __post_init__(self) -> None:
        self.targets = tuple(self.targets)
        if self.rank < 1 or self.alpha <= 0 or not self.targets:
            raise UserError(
                f"LoRA needs rank >= 1, alpha > 0 and targets; got {self.rank}, {self.alpha}, {self.targets}."
            )

    @property
    def scale(self) -> float:
        """What B A is multiplied by."""
        return self.alpha / self.rank


class _Adapted:
    """What an adapted layer has beside its own: `lora_A` [rank, in] and `lora_B` [out, rank]."""

    lora: LoRA
    lora_A: nn.Parameter
    lora_B: nn.Parameter

    def delta(self) -> Tensor:
        """This rank's slice of (alpha / rank) B A, float32."""
        return self.lora.scale * (self.lora_B.detach().float() @ self.lora_A.detach().float())

    def sharded_state_dict(
        self, prefix: str = "", sharded_offsets: tuple = (), metadata: dict | None = None
    ) -> dict[str, Any]:
        """The layer's own weight and the adapters."""
        assert isinstance(self, nn.Module)
        return sharded_state_of(self, prefix, sharded_offsets, metadata)


class AdaptedColumn(_Adapted, ColumnParallelLinear):
    """A column-parallel layer with adapters: A is whole on every rank, B is cut like the weight."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        """The layer's output plus the adapters'."""
        y, bias = super().forward(x, *args, **kwargs)
        low = nn.functional.linear(x, self.lora_A)
        # Every rank goes on with other columns, so what comes back belongs together.
        if self.sequence_parallel:
            low = gather_tokens_for_split_use(low, self.tp_group)
        else:
            low = sum_gradient(low, self.tp_group)
        return torch.add(y, nn.functional.linear(low, self.lora_B), alpha=self.lora.scale), bias


class AdaptedRow(_Adapted, RowParallelLinear):
    """A row-parallel layer with adapters: A is cut like the weight, B is whole on every rank."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The layer's output plus the adapters'."""
        y, bias = super().forward(x)
        low = nn.functional.linear(x, self.lora_A)
        collect = reduce_scatter_tokens if self.sequence_parallel else sum_forward
        low = collect(low, self.tp_group)
        return torch.add(y, nn.functional.linear(low, self.lora_B), alpha=self.lora.scale), bias


def add_lora(network: nn.Module, lora: LoRA) -> int:
    """Adds adapters to a network, in place. Nothing is frozen by it.

    Args:
        network: its layers are Megatron's; their weights keep their names.
        lora: which layers, and how.

    Returns:
        number of layers that were adapted on this process.

    Raises:
        UserError: no layer has one of the names.
    """
    found = [(name, module) for name, module in network.named_modules() if name.split(".")[-1] in lora.targets]
    for name, layer in found:
        _adapt(layer, lora, name)
    if not found:
        raise UserError(f"no layer of the network is named {' or '.join(lora.targets)}; see model.lora.targets.")
    return len(found)


@torch.no_grad()
def merge_adapters(network: nn.Module) -> int:
    """Adds every adapter's product to its layer's weight, in place, and takes the adapters away.

    Returns:
        number of layers that had adapters on this process.
    """
    layers = list(adapted_layers(network))
    for _, layer in layers:
        layer.weight.copy_(layer.weight.float() + layer.delta())
        del layer.lora_A, layer.lora_B, layer.lora
        layer.__class__ = ColumnParallelLinear if isinstance(layer, AdaptedColumn) else RowParallelLinear
    return len(layers)


def adapted_layers(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """Path and layer of every adapted layer."""
    return ((name, module) for name, module in network.named_modules() if isinstance(module, _Adapted))


def _adapt(layer: Any, lora: LoRA, name: str) -> None:
    column = isinstance(layer, ColumnParallelLinear)
    if not column and not isinstance(layer, RowParallelLinear):
        raise UserError(f"model.lora.targets: {name} is no tensor-parallel linear layer.")
    rows, columns = layer.weight.shape
    size, rank = group_size(layer.tp_group), group_rank(layer.tp_group)
    # Drawn whole and then cut, so the adapters are the same at any tensor-parallel size.
    full_columns = columns if column else columns * size
    full = torch.empty(lora.rank, full_columns)
    if layer.weight.device.type != "meta":
        full.normal_(std=full_columns**-0.5, generator=generator(lora.seed, "lora", name))
    new = {"dtype": layer.weight.dtype, "device": layer.weight.device}
    layer.lora = lora
    layer.lora_A = nn.Parameter((full if column else full.chunk(size, 1)[rank]).to(**new).contiguous())
    layer.lora_B = nn.Parameter(torch.zeros(rows, lora.rank, **new))
    cut, whole = (layer.lora_B, layer.lora_A) if column else (layer.lora_A, layer.lora_B)
    mark_tensor_parallel(cut, 0 if column else 1)
    # Under sequence parallelism the whole one sees a part of the tokens: Megatron sums the gradients of those.
    whole.sequence_parallel = bool(layer.sequence_parallel)
    layer.__class__ = AdaptedColumn if column else AdaptedRow


def split_gated(state: dict[str, Any], prefix: str, offsets: tuple) -> None:
    """Cuts both halves of a gated linear_fc1 (and of its B) by themselves, so that any parallel size can load them."""
    for key in (f"{prefix}linear_fc1.weight", f"{prefix}linear_fc1.lora_B"):
        if key in state and not isinstance(state[key], ShardedTensorFactory):
            state[key] = apply_swiglu_sharded_factory(state[key], offsets)

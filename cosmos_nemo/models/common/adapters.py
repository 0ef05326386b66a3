"""Low-rank adapters on linear layers: what a layer has beside its weight, trained while the weight is frozen.

A layer that computes several published linear maps at once (queries, keys and values) has an adapter for each of them,
so that published adapters fit one to one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cosmos_nemo.errors import UserError
from cosmos_nemo.models.common.linear import Column, Row
from cosmos_nemo.models.common.lora import LoRA, block_of
from cosmos_nemo.models.common.parts import short_name
from cosmos_nemo.models.common.sharded import mark_sequence_parallel, mark_tensor_parallel, partition_dim
from cosmos_nemo.numerics.keyed import generator
from cosmos_nemo.parallel.collectives import (
    gather_tokens_for_split_use,
    group_rank,
    group_size,
    reduce_scatter_tokens,
    sum_forward,
    sum_gradient,
)


class Adapter(nn.Module):
    """The two matrices of one part, or this rank's slices of them: A [rank, in], B [out, rank]."""

    def __init__(self, down: Tensor, up: Tensor) -> None:
        super().__init__()
        self.lora_A = nn.Parameter(down)
        self.lora_B = nn.Parameter(up)


class Adapters(nn.Module):
    """The adapters of one layer, under the last words of their parts' names.

    A column-parallel layer's A are whole on every rank and its B are cut like the weight; a row-parallel layer's A is
    cut and its B whole.
    """

    def __init__(self, layer: Column | Row, names: Sequence[str], lora: LoRA) -> None:
        """Allocate the matrices, all zero.

        Args:
            layer: one that can be adapted.
            names: those of its parts that are.
            lora: rank and scale.
        """
        super().__init__()
        assert layer.parts is not None
        self.factor, self.rank, self._parts = lora.factor, lora.rank, layer.parts
        self._column, self._tp_group = isinstance(layer, Column), layer.tp_group
        self._sequence_parallel = bool(layer.sequence_parallel)
        rows, inputs = layer.weight.shape
        new = {"dtype": layer.weight.dtype, "device": layer.weight.device}
        self._rows = dict(zip(self._parts.names, self._parts.counts(rows), strict=True))
        for name in names:
            down, up = torch.zeros(lora.rank, inputs, **new), torch.zeros(self._rows[name], lora.rank, **new)
            adapter = Adapter(down, up)
            self.add_module(short_name(name), adapter)
            cut, whole = (adapter.lora_B, adapter.lora_A) if self._column else (adapter.lora_A, adapter.lora_B)
            mark_tensor_parallel(cut, 0 if self._column else 1)
            mark_sequence_parallel(whole, self._sequence_parallel)

    def __getitem__(self, part: str) -> Adapter:
        """The adapter of the part with this name."""
        adapter = self._modules[short_name(part)]
        assert isinstance(adapter, Adapter)
        return adapter

    def names(self) -> list[str]:
        """Return the names of the parts that have an adapter, as they lie in the layer."""
        return [name for name in self._parts.names if short_name(name) in self._modules]

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return y + s B A x.

        Args:
            x: the layer's input.
            y: the layer's output; not changed.
        """
        low = self._collect(F.linear(x, self._down()))
        return torch.addmm(y.flatten(0, -2), low.flatten(0, -2), self._up().t(), alpha=self.factor).view_as(y)

    def delta(self) -> Tensor:
        """Return this rank's slice of s B A, laid out as the layer's weight, float32."""
        return self.factor * (self._up().detach().float() @ self._down().detach().float())

    def _down(self) -> Tensor:
        """Every A, one below the other: one product serves all parts."""
        downs: list[Tensor] = [self[name].lora_A for name in self.names()]
        return downs[0] if len(downs) == 1 else torch.cat(downs)

    def _up(self) -> Tensor:
        """Every B, its rows where its part's lie in the layer, its columns where its A's rows lie in `_down`.

        The rest is zero. The tokens then meet one product; making this costs no more than reading the matrices.
        """
        names = self.names()
        if len(self._parts.names) == 1:
            return self[names[0]].lora_B
        pieces = []
        for name, rows in self._rows.items():
            if name in names:
                before = names.index(name)
                pieces.append(F.pad(self[name].lora_B, (self.rank * before, self.rank * (len(names) - 1 - before))))
            else:
                pieces.append(self[names[0]].lora_B.new_zeros(rows, self.rank * len(names)))
        return self._parts.join(pieces)

    def _collect(self, low: Tensor) -> Tensor:
        """From A x as this rank has it to what its B takes."""
        if self._column:
            # Every rank goes on with other rows of B, so what comes back belongs together.
            collect = gather_tokens_for_split_use if self._sequence_parallel else sum_gradient
        else:
            collect = reduce_scatter_tokens if self._sequence_parallel else sum_forward
        return collect(low, self._tp_group)


def add_adapters(network: nn.Module, lora: LoRA, *, seed: int = 0) -> int:
    """Give a network fresh adapters, in place. Nothing is frozen by it.

    Args:
        network: one of this project; its weights keep their names.
        lora: which linear maps are adapted, and how.
        seed: of the fresh matrices, where `lora` has none of its own.

    Returns:
        number of linear maps that were adapted on this process.

    Raises:
        UserError: a target names nothing that this process has of the network, or it has none of the blocks.
    """
    layers = [(path, layer, layer.parts) for path, layer in _linear_layers(network) if layer.parts is not None]
    lora.check_targets(name for _, _, parts in layers for name in parts.names)
    count = 0
    for path, layer, parts in layers:
        names = [name for name in parts.names if lora.adapts(name, block_of(path))]
        if names:
            layer.adapters = adapters = Adapters(layer, names, lora)
            for name in names:
                key = f"{path}.{short_name(name)}"
                _fill(adapters[name].lora_A, lora, layer.tp_group, seed if lora.seed is None else lora.seed, key)
        count += len(names)
    if count == 0:
        raise UserError(
            f"model.lora.blocks={lora.blocks} leaves a pipeline stage without adapters; raise it, or use "
            "pipeline_model_parallel_size=1."
        )
    return count


@torch.no_grad()
def merge_adapters(network: nn.Module) -> int:
    """Add every adapter's product to its layer's weight, in place, and take the adapters away.

    Returns:
        number of linear maps that had adapters on this process.
    """
    for _, layer, adapters in adapted_layers(network):
        layer.weight.copy_(layer.weight.float() + adapters.delta())
    return remove_adapters(network)


def remove_adapters(network: nn.Module) -> int:
    """Take the adapters away: the network is what it was before it had any.

    Returns:
        number of linear maps that had adapters on this process.
    """
    count = 0
    for _, layer, adapters in adapted_layers(network):
        layer.adapters = None
        count += len(adapters.names())
    return count


@contextmanager
def without_adapters(network: nn.Module) -> Iterator[None]:
    """For the time, a network as it was before it had adapters."""
    layers = [(layer, adapters) for _, layer, adapters in adapted_layers(network)]
    for layer, _ in layers:
        layer.adapters = None
    try:
        yield
    finally:
        for layer, adapters in layers:
            layer.adapters = adapters


def adapted_layers(network: nn.Module) -> Iterator[tuple[str, Column | Row, Adapters]]:
    """Yield path, layer and adapters of every layer that has some."""
    for path, layer in _linear_layers(network):
        if layer.adapters is not None:
            assert isinstance(layer.adapters, Adapters)
            yield path, layer, layer.adapters


def _linear_layers(network: nn.Module) -> list[tuple[str, Column | Row]]:
    return [(path, module) for path, module in network.named_modules() if isinstance(module, Column | Row)]


@torch.no_grad()
def _fill(down: nn.Parameter, lora: LoRA, tp_group: torch.distributed.ProcessGroup | None, seed: int, key: str) -> None:
    """Give A its fresh values: drawn whole and then cut, so that they are the same at any tensor-parallel size."""
    if down.is_meta:
        return
    size = 1 if partition_dim(down) is None else group_size(tp_group)
    full = torch.empty(lora.rank, down.shape[1] * size)
    gen = generator(seed, "lora", key)
    if lora.init == "kaiming_uniform":
        bound = full.shape[1] ** -0.5
        full.uniform_(-bound, bound, generator=gen)
    else:
        full.normal_(std=1 / lora.rank if lora.init == "gaussian" else full.shape[1] ** -0.5, generator=gen)
    down.copy_(full.chunk(size, 1)[group_rank(tp_group) if size > 1 else 0])

"""Adapters of runs from before there was one for each linear map: a layer had one A for all that it computes.

That is the special case in which the A of all its parts are equal, so the weights are read exactly. Training cannot go
on from there: the optimizer's state of the common A says nothing about each part's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cosmos_nemo.families.architecture import Architecture
from cosmos_nemo.families.rows import Shape, our_shape

if TYPE_CHECKING:
    from cosmos_nemo.models.common.lora import LoRA

_TARGETS = {
    "linear_qkv": ("self_attn.q", "self_attn.k", "self_attn.v"),
    "linear_q": ("cross_attn.q",),
    "linear_kv": ("cross_attn.k", "cross_attn.v"),
    "linear_proj": ("proj",),
    "linear_fc1": ("fc1",),
    "linear_fc2": ("fc2",),
}
"""Layers by the names that such a run knows, and what they compute."""


def is_fused(lora: Mapping[str, Any]) -> bool:
    """Return whether the adapters that run.json describes are of this kind."""
    return "blocks" not in lora


def settings(lora: Mapping[str, Any], *, has_text: bool) -> LoRA:
    """Return the adapters of today that hold those of such a run.

    Args:
        lora: what run.json says.
        has_text: whether the network has cross-attention; the old default named its layers in any case.
    """
    from cosmos_nemo.models.common.lora import LoRA

    targets = [target for layer in lora["targets"] for target in _TARGETS[layer]]
    if not has_text:
        targets = [target for target in targets if not target.startswith("cross_attn")]
    return LoRA(rank=lora["rank"], alpha=lora["alpha"], targets=tuple(targets))


def stored_shapes(architecture: Architecture, lora: Mapping[str, Any]) -> dict[str, Shape]:
    """Return the full shapes of the adapters that such a run's checkpoints hold, by name.

    Args:
        architecture: the network.
        lora: what run.json says.
    """
    shapes: dict[str, Shape] = {}
    sizes = architecture.family.names.sizes(architecture.fields)
    for row in architecture.rows:
        layer = row.ours.removesuffix(".weight")
        if row.parts and layer.rpartition(".")[2] in lora["targets"]:
            outputs, inputs = our_shape(row.layout, row.published_shapes(sizes))
            shapes |= {f"{layer}.lora_A": (lora["rank"], inputs), f"{layer}.lora_B": (outputs, lora["rank"])}
    return shapes


def checkpoint_entries(network: nn.Module, entries: Mapping[str, Any], *, prefix: str) -> dict[str, Any]:
    """Replace the entries of a network's adapters by those that such a checkpoint has.

    Args:
        network: it has adapters by now.
        entries: of its tensors, by key.
        prefix: of the keys.
    """
    from megatron.core.transformer.mlp import apply_swiglu_sharded_factory

    from cosmos_nemo.models.common.adapters import adapted_layers
    from cosmos_nemo.models.common.sharded import sharded_state_of

    old = {key: entry for key, entry in entries.items() if ".adapters." not in key}
    for path, layer, adapters in adapted_layers(network):
        both = _Both(adapters[adapters.names()[0]], rows=layer.weight.shape[0])
        mine = sharded_state_of(both, f"{prefix}{path}.", (), None)
        if path.endswith("mlp.linear_fc1") and len(adapters.names()) > 1:
            key = f"{prefix}{path}.lora_B"
            mine[key] = apply_swiglu_sharded_factory(mine[key], ())
        old |= mine
    return old


def split_state(network: nn.Module, state: Mapping[str, Any]) -> dict[str, Any]:
    """Give every part its adapter, from what was loaded.

    Args:
        network: as for `checkpoint_entries`.
        state: tensors by our names, without prefix.
    """
    from cosmos_nemo.models.common.adapters import adapted_layers
    from cosmos_nemo.models.common.parts import short_name

    new = dict(state)
    for path, layer, _ in adapted_layers(network):
        assert layer.parts is not None
        down, up = new.pop(f"{path}.lora_A"), new.pop(f"{path}.lora_B")
        for name, rows in zip(layer.parts.names, layer.parts.split(up), strict=True):
            own = f"{path}.adapters.{short_name(name)}"
            new |= {f"{own}.lora_A": down, f"{own}.lora_B": rows}
    return new


class _Both(nn.Module):
    """The two matrices of a layer, cut over tensor-parallel ranks as those of its parts are."""

    def __init__(self, part: Any, *, rows: int) -> None:
        super().__init__()
        self.lora_A, self.lora_B = (
            _like(part.lora_A, part.lora_A.shape[0]),
            _like(part.lora_B, rows),
        )


def _like(matrix: nn.Parameter, rows: int) -> nn.Parameter:
    """An unset matrix with that many rows and the marks of another."""
    from cosmos_nemo.models.common.sharded import mark_tensor_parallel, partition_dim

    new = nn.Parameter(torch.empty(rows, matrix.shape[1], dtype=matrix.dtype, device=matrix.device))
    dim = partition_dim(matrix)
    if dim is not None:
        mark_tensor_parallel(new, dim)
    return new

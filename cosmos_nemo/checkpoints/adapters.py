"""Adapters under published names: out of a network, into one, and what settings they were made with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cosmos_nemo import families
from cosmos_nemo.checkpoints import fused_adapters, report
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.adapter_names import PEFT, AdaptedMap, AdapterPattern
from cosmos_nemo.families.architecture import Architecture
from cosmos_nemo.families.rows import Shape
from cosmos_nemo.models.common.lora import LoRA
from cosmos_nemo.parallel.collectives import group_rank, group_size
from cosmos_nemo.parallel.process import tensor_parallel_group


@dataclass(kw_only=True)
class Matrices:
    """The two matrices of every adapted linear map, by the published name of the map's weight."""

    down: dict[str, Tensor] = field(default_factory=dict)
    """A, [rank, in]."""
    up: dict[str, Tensor] = field(default_factory=dict)
    """B, [out, rank]."""

    def named(self, pattern: AdapterPattern) -> dict[str, Tensor]:
        """Return them by the names that files of a kind have, without prefix."""
        named: dict[str, Tensor] = {}
        for weight, down in self.down.items():
            _, name_of_down, name_of_up = pattern.names_of(weight)
            named |= {name_of_down: down, name_of_up: self.up[weight]}
        return named

    def to(self, dtype: torch.dtype | None) -> Matrices:
        """Return them cast to a dtype; None keeps theirs."""
        halves = ({name: tensor.to(dtype or tensor.dtype) for name, tensor in m.items()} for m in (self.down, self.up))
        return Matrices(**dict(zip(("down", "up"), halves, strict=True)))

    @property
    def rank(self) -> int:
        """The one rank that all of them have.

        Raises:
            UserError: they have several.
        """
        ranks = sorted({down.shape[0] for down in self.down.values()})
        if len(ranks) != 1:
            raise UserError(
                f"The adapters have ranks {', '.join(map(str, ranks))}; only adapters of one rank are read."
            )
        return ranks[0]


def take_adapters(
    state: Mapping[str, Tensor], pattern: AdapterPattern, *, source: str
) -> tuple[Mapping[str, Tensor], Matrices]:
    """Take the adapters out of a state dict.

    Args:
        state: prefix-free published names.
        pattern: what its adapters are called.
        source: where it is from, for messages.

    Returns:
        everything else, the weights of adapted maps under their plain names (`state` itself, if it holds no adapters),
        and the adapters.

    Raises:
        UserError: an adapter without its other matrix.
    """
    matrices, rest = Matrices(), dict[str, Tensor]()
    if not any(pattern.matrix(key) for key in state):
        return state, matrices
    for key, tensor in state.items():
        found = pattern.matrix(key)
        if found is None:
            rest[key] = tensor
        else:
            (matrices.down if found[1] == "A" else matrices.up)[found[0]] = tensor
    alone = sorted(matrices.down.keys() ^ matrices.up.keys())
    if alone:
        raise UserError(f"{source}: of the two matrices of {report.compress(alone)} one is missing.")
    for weight in matrices.down:
        base = pattern.names_of(weight)[0]
        if base in rest:
            rest[weight] = rest.pop(base)
    return rest, matrices


def split_published(state: Mapping[str, Tensor], *, source: str) -> tuple[Mapping[str, Tensor], Matrices]:
    """Take the adapters out of prefix-free published weights, whatever network they are of; see `take_adapters`."""
    return take_adapters(state, families.of_published(state, source=source).names.adapters, source=source)


def settings_of(matrices: Matrices, everything: Sequence[AdaptedMap], *, alpha: float, source: str) -> LoRA:
    """Return the settings with which a network gets adapters of these places and sizes.

    Args:
        matrices: of a file.
        everything: all linear maps of the network that can be adapted.
        alpha: of the adapters, in units of 1 / rank.
        source: where the matrices are from, for messages.

    Raises:
        UserError: there are none, they are of another network, or of places that cannot be put in words.
    """
    if not matrices.down:
        raise UserError(f"{source} holds no adapters.")
    known = {item.weight: item for item in everything}
    foreign = [weight for weight in matrices.down if weight not in known]
    if foreign:
        raise UserError(
            f"{source} holds adapters of another network: this one has no {report.compress(foreign)} that can be "
            "adapted."
        )
    adapted = [known[weight] for weight in known if weight in matrices.down]
    blocks = 1 + max(item.block for item in adapted)
    lora = LoRA(
        rank=matrices.rank,
        alpha=alpha,
        targets=tuple(dict.fromkeys(item.part for item in adapted)),
        blocks=blocks if blocks <= max(item.block for item in everything) else None,
    )
    missing = [i.weight for i in everything if lora.adapts(i.part, i.block) and i.weight not in matrices.down]
    if missing:
        raise UserError(
            f"{source} has no adapters of {report.compress(missing)}, though it has those of other blocks; only "
            "adapters of the same places in the first blocks, or in all, are read."
        )
    return lora


def load_adapters(network: nn.Module, matrices: Matrices, maps: Iterable[AdaptedMap], *, source: str) -> None:
    """Copy published matrices into the adapters that a network has, each rank its own slices.

    Strict: nothing is copied unless every matrix has its place and every adapter its matrices.

    Args:
        network: of a tensor-parallel world of any size.
        matrices: full ones.
        maps: what is adapted in the network, see `Architecture.adapted`.
        source: where the matrices are from, for messages.

    Raises:
        UserError: listing every missing, unexpected and wrong-shape matrix.
    """
    from cosmos_nemo.models.common.adapters import adapted_layers

    maps, layers = list(maps), {path: adapters for path, _, adapters in adapted_layers(network)}
    check_shapes(matrices, maps, next(iter(layers.values())).rank, source=source)
    with torch.no_grad():
        for item in maps:
            if item.layer in layers:  # else it is on another pipeline stage
                adapter = layers[item.layer][item.part]
                _copy_slice(adapter.lora_A, matrices.down[item.weight])
                _copy_slice(adapter.lora_B, matrices.up[item.weight])


def run_settings(architecture: Architecture, lora: Mapping[str, Any]) -> LoRA:
    """Return the settings with which a network gets the adapters of a run.

    Args:
        architecture: the network.
        lora: what run.json says.
    """
    if fused_adapters.is_fused(lora):
        return fused_adapters.settings(lora, has_text=bool(architecture.fields.get("crossattn_emb_channels")))
    return LoRA(**lora)


def stored_shapes(architecture: Architecture, lora: Mapping[str, Any]) -> dict[str, Shape]:
    """Return the full shapes of the adapters that a run's checkpoints hold, by our name.

    Args:
        architecture: the network.
        lora: what run.json says.
    """
    if fused_adapters.is_fused(lora):
        return fused_adapters.stored_shapes(architecture, lora)
    maps = architecture.adapted(LoRA(**lora))
    return {name: shape for item in maps for name, shape in item.our_shapes(lora["rank"]).items()}


def check_shapes(matrices: Matrices, maps: Iterable[AdaptedMap], rank: int, *, source: str) -> None:
    """Raise unless there is exactly what is adapted in a network, in its shapes.

    Args:
        matrices: full ones.
        maps: what is adapted, see `Architecture.adapted`.
        rank: of the adapters.
        source: where the matrices are from, for messages.

    Raises:
        UserError: listing every missing, unexpected and wrong-shape matrix.
    """
    report.check(
        found={name: tuple(tensor.shape) for name, tensor in matrices.named(PEFT).items()},
        expected={name: shape for item in maps for name, shape in item.published_shapes(rank, PEFT).items()},
        headline=f"The adapters of {source} are not those of the network",
    )


def give_adapters(
    network: nn.Module, architecture: Architecture, matrices: Matrices, *, alpha: float, source: str
) -> LoRA:
    """Give a network the adapters of a file, whatever published names it uses; returns their settings.

    Args:
        network: without adapters, of a tensor-parallel world of any size.
        architecture: what it is.
        matrices: full ones.
        alpha: of the adapters, in units of 1 / rank.
        source: where the matrices are from, for messages.

    Raises:
        UserError: they are of another network, or of places that cannot be put in words.
    """
    from cosmos_nemo.models.common.adapters import add_adapters

    naming = architecture.family.names.naming(matrices.down)
    lora = settings_of(matrices, architecture.adapted(naming=naming), alpha=alpha, source=source)
    add_adapters(network, lora)
    load_adapters(network, matrices, architecture.adapted(lora, naming), source=source)
    return lora


def adapters_of(network: nn.Module, maps: Iterable[AdaptedMap]) -> Matrices:
    """Return the adapters of a network, gathered over the tensor-parallel group; every rank of it calls this.

    Args:
        network: it has adapters.
        maps: what is adapted in it, see `Architecture.adapted`.
    """
    from cosmos_nemo.models.common.adapters import adapted_layers

    matrices, layers = Matrices(), {path: adapters for path, _, adapters in adapted_layers(network)}
    for item in maps:
        if item.layer in layers:
            adapter = layers[item.layer][item.part]
            matrices.down[item.weight] = _whole(adapter.lora_A)
            matrices.up[item.weight] = _whole(adapter.lora_B)
    return matrices


def _copy_slice(parameter: nn.Parameter, full: Tensor) -> None:
    from cosmos_nemo.models.common.sharded import partition_dim

    group, dim = tensor_parallel_group(), partition_dim(parameter)
    parameter.copy_(full if dim is None else full.chunk(group_size(group), dim)[group_rank(group)])


def _whole(parameter: nn.Parameter) -> Tensor:
    from cosmos_nemo.models.common.sharded import partition_dim

    group, dim, mine = tensor_parallel_group(), partition_dim(parameter), parameter.detach()
    if dim is None or group_size(group) == 1:
        return mine.cpu()
    shards = [torch.empty_like(mine) for _ in range(group_size(group))]
    torch.distributed.all_gather(shards, mine.contiguous(), group=group)
    return torch.cat(shards, dim=dim).cpu()

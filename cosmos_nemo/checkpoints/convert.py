"""Published weights into our Megatron model and back, at any tensor-parallel size, bit for bit.

One parameter is handled at a time: importing holds the model once plus one tensor (the file is mapped), exporting
holds the model plus the published tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from cosmos_nemo import families
from cosmos_nemo.checkpoints import report
from cosmos_nemo.checkpoints.published import select_network
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.architecture import Architecture
from cosmos_nemo.families.rows import Layout, Naming, Row, Shape, join, published_dim, split
from cosmos_nemo.parallel.collectives import group_rank, group_size
from cosmos_nemo.parallel.process import current_sizes, tensor_parallel_group


def load_published_into(model: nn.Module, state: Mapping[str, Tensor], *, ema: bool = False) -> None:
    """Copy published weights into the model, each rank taking its own shard.

    Strict: nothing is copied unless every parameter has its published tensors, in the right shape, and every
    published tensor has its parameter.

    Args:
        model: a network of this project, possibly wrapped, at any tensor- and pipeline-parallel size.
        state: published weights under original or diffusers names, with or without prefix.
        ema: take the averaged weights, such as `net_ema.`.

    Raises:
        UserError: listing every missing, unexpected and wrong-shape tensor; another model size is said first.
    """
    state = select_network(state, ema=ema)
    architecture = _architecture(model)
    found = families.of_published(state)
    if found is not architecture.family:
        raise UserError(
            f"The checkpoint holds a {found.title} network and the model is a {architecture.family.title} one; "
            "choose the recipe of its family."
        )
    report.check_published(state, architecture)
    naming = found.names.naming(state)
    with torch.no_grad():
        for pair in _parameters(model, architecture):
            pair.parameter.copy_(pair.join([state[name] for name in pair.row.published(naming)]))


def published_state_dict(
    model: nn.Module,
    *,
    naming: Naming | str = Naming.ORIGINAL,
    prefix: str | None = None,
    dtype: torch.dtype | None = None,
    on_all_ranks: bool = True,
) -> dict[str, Tensor]:
    """The model's weights under published names, gathered over the tensor-parallel group.

    Args:
        model: a network of this project, possibly wrapped; every rank of the tensor-parallel group must call this.
        naming: `original` or `diffusers`.
        prefix: put before every name; None means the family's, such as `net.`, for original names and nothing for
            diffusers names.
        dtype: cast to this; None keeps the parameters' own.
        on_all_ranks: False keeps the result on tensor-parallel rank 0 only (the others return an empty dict).

    Returns:
        full contiguous CPU tensors; of a pipeline stage only its own. With one rank and no cast, tensors that need no
        re-ordering share the model's memory: copy them before changing the model.
    """
    source = {id(p): p.detach() for p in model.parameters()}
    return _published(model, source, Naming(naming), prefix, dtype, on_all_ranks)


def published_gradients(
    model: nn.Module, *, naming: Naming | str = Naming.ORIGINAL, prefix: str | None = None
) -> dict[str, Tensor]:
    """The parameters' gradients under published names; arguments and result as in `published_state_dict`.

    `main_grad` (Megatron's gradient buffer) is taken where it exists, else `grad`.

    Raises:
        UserError: a parameter has no gradient; all such parameters are named.
    """
    found = {name: (p, _gradient(p)) for name, p in model.named_parameters()}
    source = {id(p): gradient for p, gradient in found.values() if gradient is not None}
    without = [name for name, (_, gradient) in found.items() if gradient is None]
    if without:
        raise UserError(f"No gradient for {', '.join(without)}; run backward first and freeze nothing.")
    return _published(model, source, Naming(naming), prefix, None, True)


def _gradient(parameter: nn.Parameter) -> Tensor | None:
    """Megatron's accumulated gradient where there is one, else torch's."""
    main = getattr(parameter, "main_grad", None)
    return parameter.grad if main is None else main


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """A table row together with the model's parameter (this rank's shard of it)."""

    row: Row
    published: list[Shape]
    parameter: nn.Parameter
    head_width: int
    group: ProcessGroup | None

    @property
    def partition_dim(self) -> int | None:
        """The dimension of our parameter that is sharded, None if it is replicated."""
        sharded = group_size(self.group) > 1 and getattr(self.parameter, "tensor_model_parallel", False)
        return int(getattr(self.parameter, "partition_dim", 0)) if sharded else None

    @property
    def padding(self) -> int:
        """Rows that follow the published ones, because the tensor-parallel size does not divide a vocabulary."""
        if self.row.layout is not Layout.COPY or self.partition_dim != 0:
            return 0
        return self.parameter.shape[0] * group_size(self.group) - self.published[0][0]

    def join(self, full: list[Tensor]) -> Tensor:
        """This rank's shard of our parameter from the full published tensors."""
        if self.partition_dim is not None:
            if self.padding:
                full = [torch.cat((full[0], full[0].new_zeros(self.padding, *full[0].shape[1:])))]
            dim = published_dim(self.row.layout, self.partition_dim)
            full = [tensor.chunk(group_size(self.group), dim=dim)[group_rank(self.group)] for tensor in full]
        return join(self.row.layout, full, head_width=self.head_width)

    def split(self, ours: Tensor) -> list[Tensor]:
        """Full published tensors from this rank's shard (of the parameter or of its gradient)."""
        pieces = split(self.row.layout, ours, published=self.published, head_width=self.head_width)
        if self.partition_dim is None:
            return pieces
        dim = published_dim(self.row.layout, self.partition_dim)
        pieces = [self._gather(piece, dim) for piece in pieces]
        return [pieces[0][: self.published[0][0]]] if self.padding else pieces

    def _gather(self, piece: Tensor, dim: int) -> Tensor:
        """Concatenate all ranks' pieces along `dim`."""
        shards = [torch.empty_like(piece) for _ in range(group_size(self.group))]
        torch.distributed.all_gather(shards, piece, group=self.group)
        return torch.cat(shards, dim=dim)


def _published(
    model: nn.Module,
    source: Mapping[int, Tensor],
    naming: Naming,
    prefix: str | None,
    dtype: torch.dtype | None,
    on_all_ranks: bool,
) -> dict[str, Tensor]:
    """Published names -> full tensors, taking the values of each parameter from `source[id(parameter)]`."""
    architecture = _architecture(model)
    if prefix is None:
        prefix = architecture.family.names.prefix if naming is Naming.ORIGINAL else ""
    keep = on_all_ranks or group_rank(tensor_parallel_group()) == 0
    result: dict[str, Tensor] = {}
    for pair in _parameters(model, architecture):
        pieces = pair.split(source[id(pair.parameter)])
        if keep:
            for name, piece in zip(pair.row.published(naming), pieces, strict=True):
                result[prefix + name] = piece.to(device="cpu", dtype=dtype or piece.dtype)
    return result


def _parameters(model: nn.Module, architecture: Architecture) -> Iterator[_Pair]:
    """Every table row with its parameter, in the table's order; of a pipeline stage only the rows it holds.

    Raises:
        UserError: the model's parameters are not those of the table (adapters must be merged first).
    """
    parameters = {plain_name(name): parameter for name, parameter in model.named_parameters()}
    family = architecture.family
    rows = {row.ours: row for row in architecture.rows}
    absent = sorted(rows.keys() - parameters) if current_sizes().pipeline_model_parallel_size == 1 else []
    extra = sorted(set(parameters) - rows.keys())
    if absent or extra:
        raise UserError(
            f"This model's parameters are not those of a plain {family.title} network: "
            f"absent {report.compress(absent) or 'none'}; extra {report.compress(extra) or 'none'}."
        )
    sizes, group = family.names.sizes(architecture.fields), tensor_parallel_group()
    for name, row in rows.items():
        if name in parameters:
            yield _Pair(
                row=row,
                published=row.published_shapes(sizes),
                parameter=parameters[name],
                head_width=sizes.get("K", 1),
                group=group,
            )


def plain_name(name: str) -> str:
    """A parameter's name without the `module.` that each wrapper (DDP, mixed precision) puts before it."""
    while name.startswith("module."):
        name = name.removeprefix("module.")
    return name


def _architecture(model: nn.Module) -> Architecture:
    """The network inside the wrappers, by its config."""
    family, config = families.of_network(model)
    return Architecture(family=family, fields=family.describe(config))

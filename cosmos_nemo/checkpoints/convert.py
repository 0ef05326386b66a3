"""Published weights into our Megatron model and back, at any tensor-parallel size, bit for bit.

One parameter is handled at a time: importing holds the model once plus one tensor (the file is mapped), exporting
holds the model plus the published tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cosmos_nemo.checkpoints import report
from cosmos_nemo.checkpoints.predict2 import (
    ORIGINAL_PREFIX,
    Naming,
    Row,
    join,
    published_dim,
    published_shape,
    split,
    table,
)
from cosmos_nemo.checkpoints.published import detect_naming, select_network
from cosmos_nemo.checkpoints.shapes import infer_config
from cosmos_nemo.errors import UserError

__all__ = ["infer_config", "load_published_into", "published_gradients", "published_state_dict"]


@dataclass(frozen=True, kw_only=True)
class TensorParallel:
    """This process's place in the tensor-parallel group; `group` is None for a group of one."""

    rank: int = 0
    size: int = 1
    group: Any = None

    @classmethod
    def current(cls) -> TensorParallel:
        """Megatron's tensor-parallel group, or a group of one where Megatron was not initialised."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return cls()
        from megatron.core import parallel_state

        if not parallel_state.model_parallel_is_initialized():
            return cls()
        return cls(
            rank=parallel_state.get_tensor_model_parallel_rank(),
            size=parallel_state.get_tensor_model_parallel_world_size(),
            group=parallel_state.get_tensor_model_parallel_group(),
        )


def load_published_into(model: nn.Module, state: Mapping[str, Tensor], *, ema: bool = False) -> None:
    """Copy published weights into the model, each rank taking its own shard.

    Strict: nothing is copied unless every parameter has its published tensors, in the right shape, and every
    published tensor has its parameter.

    Args:
        model: a `cosmos_nemo.models.dit.DiT`, possibly wrapped, at any tensor-parallel size.
        state: published weights under original or diffusers names, with or without the prefix `net.`.
        ema: take the averaged weights `net_ema.`.

    Raises:
        UserError: listing every missing, unexpected and wrong-shape tensor; another model size is said first.
    """
    state = select_network(state, ema=ema)
    naming = detect_naming(state)
    parallel = TensorParallel.current()
    pairs = list(_parameters(model, parallel))
    report.check_published(
        state,
        expected={name: shape for pair in pairs for name, shape in pair.published_shapes(naming)},
        model_fields=_model_fields(model),
    )
    with torch.no_grad():
        for pair in pairs:
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
        model: a DiT, possibly wrapped; every rank of the tensor-parallel group must call this.
        naming: `original` or `diffusers`.
        prefix: put before every name; None means `net.` for original names and nothing for diffusers names.
        dtype: cast to this; None keeps the parameters' own.
        on_all_ranks: False keeps the result on tensor-parallel rank 0 only (the others return an empty dict).

    Returns:
        full contiguous CPU tensors. With one rank and no cast, tensors that need no re-ordering share the
        model's memory: copy them before changing the model.
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
    parameter: nn.Parameter
    head_width: int
    parallel: TensorParallel

    @property
    def partition_dim(self) -> int | None:
        """The dimension of our parameter that is sharded, None if it is replicated."""
        sharded = self.parallel.size > 1 and getattr(self.parameter, "tensor_model_parallel", False)
        return int(getattr(self.parameter, "partition_dim", 0)) if sharded else None

    def published_shapes(self, naming: Naming) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and full shapes of the row's published tensors."""
        shape = list(self.parameter.shape)
        if self.partition_dim is not None:
            shape[self.partition_dim] *= self.parallel.size
        names = self.row.published(naming)
        for name in names:
            yield name, published_shape(self.row.layout, tuple(shape), len(names))

    def join(self, full: list[Tensor]) -> Tensor:
        """This rank's shard of our parameter from the full published tensors."""
        if self.partition_dim is not None:
            dim = published_dim(self.row.layout, self.partition_dim)
            full = [tensor.chunk(self.parallel.size, dim=dim)[self.parallel.rank] for tensor in full]
        return join(self.row.layout, full, head_width=self.head_width)

    def split(self, ours: Tensor) -> list[Tensor]:
        """Full published tensors from this rank's shard (of the parameter or of its gradient)."""
        pieces = split(self.row.layout, ours, num_pieces=len(self.row.original), head_width=self.head_width)
        if self.partition_dim is None:
            return pieces
        dim = published_dim(self.row.layout, self.partition_dim)
        return [self._gather(piece, dim) for piece in pieces]

    def _gather(self, piece: Tensor, dim: int) -> Tensor:
        """Concatenate all ranks' pieces along `dim`."""
        shards = [torch.empty_like(piece) for _ in range(self.parallel.size)]
        torch.distributed.all_gather(shards, piece, group=self.parallel.group)
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
    if prefix is None:
        prefix = ORIGINAL_PREFIX if naming is Naming.ORIGINAL else ""
    parallel = TensorParallel.current()
    keep = on_all_ranks or parallel.rank == 0
    result: dict[str, Tensor] = {}
    for pair in _parameters(model, parallel):
        pieces = pair.split(source[id(pair.parameter)])
        if keep:
            for name, piece in zip(pair.row.published(naming), pieces, strict=True):
                result[prefix + name] = piece.to(device="cpu", dtype=dtype or piece.dtype)
    return result


def _parameters(model: nn.Module, parallel: TensorParallel) -> Iterator[_Pair]:
    """Every table row with its parameter, in the table's order.

    Raises:
        UserError: the model's parameters are not those of the table (adapters must be merged first).
    """
    # Wrappers (DDP, mixed precision) put `module.` before every name.
    parameters = {re.sub(r"^(module\.)+", "", name): parameter for name, parameter in model.named_parameters()}
    num_layers = 1 + max((int(name.split(".")[1]) for name in parameters if name.startswith("blocks.")), default=-1)
    rows = table(num_layers)
    names = {row.ours for row in rows}
    if names != set(parameters):
        absent, extra = sorted(names - set(parameters)), sorted(set(parameters) - names)
        raise UserError(
            "This model's parameters are not those of a plain Predict2 network: "
            f"absent {report.compress(absent) or 'none'}; extra {report.compress(extra) or 'none'}."
        )
    for row in rows:
        head_width = int(parameters["blocks.0.self_attn.q_layernorm.weight"].shape[0])
        yield _Pair(row=row, parameter=parameters[row.ours], head_width=head_width, parallel=parallel)


def _model_fields(model: nn.Module) -> dict[str, Any]:
    """The fields of the model's config that `infer_config` can also read off a file."""
    inner: Any = model
    while not hasattr(inner, "config") and hasattr(inner, "module"):
        inner = inner.module
    return dict(vars(inner.config)) if hasattr(inner, "config") else {}

"""Rows of the name tables: which published tensors make up one of our parameters, and how they lie in it.

The tables themselves are in the `*_names.py` beside this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import torch
from torch import Tensor

from cosmos_nemo.errors import UserError


class Layout(Enum):
    """How the published tensors of a row lie in our parameter."""

    COPY = "copy"
    """One published tensor, same shape."""
    PER_HEAD = "per_head"
    """n matrices of whole heads become one, group by group: the heads of group 0 of the first, of the second, ...,
    then those of group 1. The smallest matrix has one head per group; where all are of equal size, a group is a
    head of each. A contiguous slice is whole groups."""
    STACK = "stack"
    """n tensors [P, Q] become [n, P, Q]."""
    CONCAT = "concat"
    """n matrices [P, Q] become [n*P, Q]; a tensor-parallel shard is the concatenation of their shards."""


class Naming(str, Enum):
    """Which published family of names a state dict uses."""

    ORIGINAL = "original"
    DIFFUSERS = "diffusers"


Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One of our parameters and the published tensors it is made of.

    Attributes:
        ours: our parameter's name; `{i}` is the block number.
        original: names in the published `.pt` files, without prefix.
        diffusers: names in diffusers' class of this network, in the same order; empty where it has none.
        shapes: shape of each published tensor, in numbers or in the symbols of the family's `Names.sizes`.
        layout: how the published tensors lie in our parameter.
        cut: dimension along which upstream's tensor-parallel files hold a part of each; None: each file holds all.
        parts: what our layer calls the linear maps that the published tensors are, in the same order; see
            `models.common.parts`. Empty for what cannot be adapted.
    """

    ours: str
    original: tuple[str, ...]
    diffusers: tuple[str, ...] = ()
    shapes: tuple[tuple[str | int, ...], ...]
    layout: Layout
    cut: int | None = None
    parts: tuple[str, ...] = ()

    def published(self, naming: Naming) -> tuple[str, ...]:
        """Names of the published tensors in the family `naming`, without any prefix.

        Raises:
            UserError: this network has no such names.
        """
        names = self.original if naming is Naming.ORIGINAL else self.diffusers
        if not names:
            raise UserError(f"There are no {naming.value} names for this family of networks; use original.")
        return names

    def of_block(self, index: int) -> Row:
        """The row of block number `index`."""
        block = str(index)
        return replace(
            self,
            ours=self.ours.replace("{i}", block),
            original=tuple(name.replace("{i}", block) for name in self.original),
            diffusers=tuple(name.replace("{i}", block) for name in self.diffusers),
        )

    def published_shapes(self, sizes: Mapping[str, int]) -> list[Shape]:
        """Full shape of each published tensor, for the sizes that the symbols stand for."""
        return [tuple(s if isinstance(s, int) else sizes[s] for s in shape) for shape in self.shapes]


def join(layout: Layout, pieces: Sequence[Tensor], *, head_width: int) -> Tensor:
    """Lay published tensors out as our parameter.

    Args:
        layout: the row's layout.
        pieces: the row's published tensors, in the row's order; for PER_HEAD each [N*K, X], any whole number of
            groups, so that a tensor-parallel shard is joined like the full tensor.
        head_width: K.

    Returns:
        our parameter (or our shard of it); values are copied, never computed with.
    """
    if layout is Layout.COPY:
        return pieces[0]
    if layout is Layout.STACK:
        return torch.stack(tuple(pieces))
    if layout is Layout.CONCAT:
        return torch.cat(tuple(pieces))
    width = pieces[0].shape[1]
    groups = min(piece.shape[0] for piece in pieces) // head_width
    heads = [piece.reshape(groups, -1, width) for piece in pieces]  # [G*r*K, X] -> [G, r*K, X]
    return torch.cat(heads, dim=1).reshape(-1, width)  # [G, (r+...)*K, X] -> [G*(r+...)*K, X]


def split(layout: Layout, ours: Tensor, *, published: Sequence[Shape], head_width: int) -> list[Tensor]:
    """Cut our parameter into the published tensors: the inverse of `join`.

    Args:
        layout: the row's layout.
        ours: our parameter, or our tensor-parallel shard of it.
        published: full shapes of the published tensors.
        head_width: K.

    Returns:
        the published tensors (or our shard of each), contiguous, in the row's order.
    """
    if layout is Layout.COPY:
        return [ours.contiguous()]
    if layout is Layout.STACK:
        return [piece.contiguous() for piece in ours.unbind(0)]
    if layout is Layout.CONCAT:
        return [piece.contiguous() for piece in ours.chunk(len(published))]
    width = ours.shape[1]
    fewest = min(shape[0] for shape in published)
    rows = [shape[0] // fewest * head_width for shape in published]  # rows of one group in each tensor
    groups = ours.reshape(-1, sum(rows), width)  # [G*(r+...)*K, X] -> [G, (r+...)*K, X]
    return [piece.reshape(-1, width).contiguous() for piece in groups.split(rows, dim=1)]


def published_dim(layout: Layout, partition_dim: int) -> int:
    """The dimension of the published tensors that our tensor-parallel `partition_dim` cuts."""
    return partition_dim - 1 if layout is Layout.STACK else partition_dim


def our_shape(layout: Layout, published: Sequence[Shape]) -> Shape:
    """Shape of our full parameter, from those of its published tensors."""
    if layout is Layout.STACK:
        return (len(published), *published[0])
    if layout is Layout.COPY:
        return published[0]
    return (sum(shape[0] for shape in published), *published[0][1:])

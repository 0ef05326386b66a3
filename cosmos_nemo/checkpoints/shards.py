"""Tensor-parallel files of published weights: `X.pt` <-> `X_model_mp_{rank}.pt`, exactly as upstream cuts and merges.

Source: cosmos-predict1 `scripts/shard_autoregressive_base_checkpoints.py`, `merge_autoregressive_tp_checkpoints.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cosmos_nemo.checkpoints.upstream_folder import shard_path
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.family import Family


class MergedShards(Mapping[str, Tensor]):
    """The whole network that a set of tensor-parallel files makes up; a tensor is merged when it is taken out.

    So a set is read with the memory of one tensor. Keys are prefix-free published names.
    """

    def __init__(self, parts: Mapping[Path, Mapping[str, Tensor]], family: Family) -> None:
        """Check that the files belong together.

        Args:
            parts: file -> its tensors, in the order of the ranks.
            family: whose names they are.

        Raises:
            UserError: naming the file and the tensor in which it disagrees with the first file.
        """
        if not family.names.in_parts:
            raise UserError(f"{next(iter(parts))}: there are no tensor-parallel files of {family.title} networks.")
        self._parts = list(parts.values())
        (first, expected), *others = parts.items()
        try:
            self._cuts = {name: family.names.cut_of(name) for name in expected}
        except UserError as error:
            raise UserError(f"{first}: {error}") from error
        for file, part in others:
            _check_same_run(first, expected, file, part, self._cuts)

    def __getitem__(self, name: str) -> Tensor:
        cut = self._cuts[name]
        return self._parts[0][name] if cut is None else torch.cat([part[name] for part in self._parts], dim=cut)

    def __iter__(self) -> Iterator[str]:
        return iter(self._cuts)

    def __len__(self) -> int:
        return len(self._cuts)

    @property
    def size(self) -> int:
        """Number of files."""
        return len(self._parts)

    def outline(self) -> dict[str, Tensor]:
        """Tensors of the merged shapes and dtypes without values."""
        return {name: self._outline(name) for name in self}

    def _outline(self, name: str) -> Tensor:
        """One merged tensor, without values."""
        first, cut = self._parts[0][name], self._cuts[name]
        shape = list(first.shape)
        if cut is not None:
            shape[cut] *= self.size
        return torch.empty(shape, dtype=first.dtype, device="meta")


def check_set(whole: Path, found: Mapping[int, Path], *, size: int | None) -> list[Path]:
    """The files of a complete set, in the order of the ranks.

    Args:
        whole: the file that they were cut from.
        found: rank -> file, what is there.
        size: tensor-parallel size; None: what is there must be complete by itself.

    Raises:
        UserError: naming the missing files, or those that are too many.
    """
    if not found:
        raise UserError(f"There are no tensor-parallel files of {whole}: {shard_path(whole, 0).name} is missing.")
    wanted = range(size if size is not None else max(found) + 1)
    missing = [shard_path(whole, rank).name for rank in wanted if rank not in found]
    if missing:
        raise UserError(
            f"Of the {len(wanted)} tensor-parallel files of {whole} {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing; copy the whole set."
        )
    extra = [file.name for rank, file in found.items() if rank not in wanted]
    if extra:
        raise UserError(
            f"There are {len(found)} tensor-parallel files of {whole}, not {len(wanted)}: {', '.join(extra)} would be "
            f"left out; use --tensor-parallel {max(found) + 1}, or remove what is of another run."
        )
    return [found[rank] for rank in wanted]


def part_of(state: Mapping[str, Tensor], family: Family, *, rank: int, size: int) -> dict[str, Tensor]:
    """What one tensor-parallel rank's file holds, under the original names with their prefix.

    Args:
        state: the whole network under prefix-free published names.
        family: its family.
        rank: the file's rank.
        size: tensor-parallel size; `check_size` first.

    Returns:
        tensors of their own: torch.save would write the whole storage that a view shares.
    """
    mine = {}
    for name, tensor in state.items():
        cut = family.names.cut_of(name)
        mine[family.names.prefix + name] = (tensor if cut is None else tensor.chunk(size, dim=cut)[rank]).clone()
    return mine


def check_size(family: Family, fields: Mapping[str, Any], size: int) -> None:
    """Raise unless a network can be cut into `size` files.

    Args:
        family: its family.
        fields: its network-describing fields.
        size: tensor-parallel size.

    Raises:
        UserError: naming what does not divide and the legal sizes, or there are no such files of this family.
    """
    if not family.names.in_parts:
        raise UserError(f"There are no tensor-parallel files of {family.title} networks; only of autoregressive ones.")
    family.names.check_parts(fields, size)


def _check_same_run(
    first: Path,
    expected: Mapping[str, Tensor],
    file: Path,
    part: Mapping[str, Tensor],
    cuts: Mapping[str, int | None],
) -> None:
    """Raise unless two files of a set have the same names, shapes and dtypes, and what both hold whole is equal."""
    if expected.keys() != part.keys():
        name = min(expected.keys() ^ part.keys())
        holder, other = (first, file) if name in expected else (file, first)
        raise UserError(f"{holder.name} holds {name} and {other.name} does not: they are of different networks.")
    for name, tensor in expected.items():
        theirs = part[name]
        if tensor.shape != theirs.shape or tensor.dtype != theirs.dtype:
            raise UserError(
                f"{name} is {_words(tensor)} in {first.name} and {_words(theirs)} in {file.name}: they are of "
                "different networks, or were cut to different sizes."
            )
        if cuts[name] is None and not torch.equal(tensor, theirs):
            raise UserError(
                f"{name} differs between {first.name} and {file.name}, though every file of a set holds the same: "
                f"{file} is of another run or iteration; copy the whole set from one."
            )


def _words(tensor: Tensor) -> str:
    """Shape and dtype."""
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"

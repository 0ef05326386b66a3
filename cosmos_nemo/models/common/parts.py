"""The published linear maps that one layer computes at once, and where the output of each lies in the layer's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Parts:
    """The parts of a linear layer. Its weight's rows are groups, each of which holds some rows of every part in turn.

    A tensor-parallel rank's rows are laid out like the whole layer's: they are fewer groups, or smaller shares.
    """

    names: tuple[str, ...]
    """In the words of this project, such as "self_attn.q"; the last word tells the parts of one layer apart."""
    rows: tuple[int, ...] | None = None
    """Rows of each part in one group; None: one group of equal shares."""

    def counts(self, total: int) -> tuple[int, ...]:
        """Return the rows of each part among `total` rows of the layer."""
        widths = self._widths(total)
        return tuple(total // sum(widths) * width for width in widths)

    def split(self, layer: Tensor) -> list[Tensor]:
        """Return each part's rows of a tensor that has the layer's, [rows, X]."""
        widths = self._widths(layer.shape[0])
        groups = layer.unflatten(0, (-1, sum(widths)))
        return [piece.flatten(0, 1) for piece in groups.split(widths, dim=1)]

    def join(self, pieces: Sequence[Tensor]) -> Tensor:
        """Lay the parts' rows out as the layer's: the inverse of `split`."""
        if len(pieces) == 1:
            return pieces[0]
        widths = self._widths(sum(piece.shape[0] for piece in pieces))
        groups = [piece.unflatten(0, (-1, width)) for piece, width in zip(pieces, widths, strict=True)]
        return torch.cat(groups, dim=1).flatten(0, 1)

    def _widths(self, total: int) -> tuple[int, ...]:
        return self.rows or (total // len(self.names),) * len(self.names)


def short_name(part: str) -> str:
    """Return the last word of a part's name: "q" of "self_attn.q"."""
    return part.rpartition(".")[2]

"""The token sequence across ranks: which rank holds which tokens, and how attention sees all of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from cosmos_nemo.parallel.collectives import exchange, group_rank, group_size


@dataclass(frozen=True, kw_only=True)
class TokenRange:
    """The contiguous piece of a token sequence that one rank holds.

    The sequence is padded at its end until it divides; padding tokens are carried along but never attended
    and never returned, so any number of tokens works with any number of ranks.
    """

    num_tokens: int
    """Length of the real sequence, S."""
    start: int
    """First position held here, in [0, padded length)."""
    length: int
    """Number of positions held here, padding included."""

    @property
    def stop(self) -> int:
        """One past the last position held here."""
        return self.start + self.length

    def take(self, x_S: Tensor) -> Tensor:
        """Cuts this range out of dimension 0 of a full sequence; positions past its end are zeros."""
        if self.start == 0 and self.length == x_S.shape[0]:
            return x_S
        piece = x_S[self.start : min(self.stop, self.num_tokens)]
        return pad_tokens(piece, self.length)


def split_range(num_tokens: int, *groups: ProcessGroup | None) -> TokenRange:
    """This rank's piece when the sequence is cut over the first group, each piece over the second, and so on.

    Args:
        num_tokens: length of the real sequence.
        *groups: process groups, outermost first (context parallel, then sequence parallel).
    """
    parts, index = 1, 0
    for group in groups:
        parts, index = parts * group_size(group), index * group_size(group) + group_rank(group)
    length = -(-num_tokens // parts)
    return TokenRange(num_tokens=num_tokens, start=index * length, length=length)


def pad_tokens(x_S: Tensor, length: int) -> Tensor:
    """Appends zeros to dimension 0 until it has ``length`` entries."""
    missing = length - x_S.shape[0]
    return x_S if missing == 0 else torch.cat((x_S, x_S.new_zeros((missing, *x_S.shape[1:]))))


def sequence_to_heads(x_S_B_N: Tensor, group: ProcessGroup | None) -> Tensor:
    """From a piece of the sequence with all heads to the whole sequence with a piece of the heads.

    Args:
        x_S_B_N: shape [S / ranks, B, N, ...]; N divides by the group size.
        group: context-parallel group.

    Returns:
        shape [S, B, N / ranks, ...].

    Source: DeepSpeed-Ulysses, arXiv:2309.14509.
    """
    ranks = group_size(group)
    if ranks == 1:
        return x_S_B_N
    S, B, N, *rest = x_S_B_N.shape
    pieces = x_S_B_N.reshape(S, B, ranks, N // ranks, *rest).movedim(2, 0)  # [ranks, S/ranks, B, N/ranks, ...]
    return exchange(pieces, group).flatten(0, 1)


def heads_to_sequence(x_S_B_N: Tensor, group: ProcessGroup | None) -> Tensor:
    """The inverse of `sequence_to_heads`: [S, B, N / ranks, ...] to [S / ranks, B, N, ...]."""
    ranks = group_size(group)
    if ranks == 1:
        return x_S_B_N
    pieces = exchange(x_S_B_N.unflatten(0, (ranks, -1)), group)  # [ranks, S/ranks, B, N/ranks, ...]
    return pieces.movedim(0, 2).flatten(2, 3)

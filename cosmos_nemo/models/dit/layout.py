"""Where the tokens of a video live: the rank's token range, and the frames it covers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cosmos_nemo.parallel.collectives import group_rank, group_size
from cosmos_nemo.parallel.context import TokenRange, split_range
from cosmos_nemo.parallel.groups import Groups


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One rank's tokens of one batch, in terms of frames.

    Modulation has one row per frame. Tokens are viewed as [F, P, B, D], F groups of P tokens with one modulation row
    each: whole frames where the range is aligned with frames, one group where it lies inside a frame (or all frames
    share their timestep), single tokens otherwise. Rows are broadcast, never copied, except in the last case.
    """

    tokens: TokenRange
    """The range held here (after context and sequence parallelism)."""
    attended: TokenRange
    """The range seen by attention here: that of the context-parallel rank, because the linear layers before it
    gather the sequence-parallel pieces."""
    rows: slice | Tensor
    """Which modulation rows apply, in order."""
    group: int
    """P, tokens per modulation row."""

    @staticmethod
    def of(num_tokens: int, tokens_per_frame: int, timesteps: int, groups: Groups, device: torch.device) -> Layout:
        """The layout of this rank's share of a video with ``timesteps`` (1 or T) modulation rows."""
        held = split_range(num_tokens, groups.cp, groups.sp)
        length = held.length * group_size(groups.sp)
        attended = TokenRange(num_tokens=num_tokens, start=group_rank(groups.cp) * length, length=length)
        rows, group = _modulation_rows(held, tokens_per_frame, timesteps, device)
        return Layout(tokens=held, attended=attended, rows=rows, group=group)

    def spread(self, modulation_T_B: Tensor) -> Tensor:
        """Picks the rows for this rank's tokens: [..., T, B, M] -> [..., F, 1, B, M]."""
        picked = (
            modulation_T_B[..., self.rows, :, :]
            if isinstance(self.rows, slice)
            else modulation_T_B.index_select(-3, self.rows)
        )
        return picked.unsqueeze(-3)

    def by_frame(self, x_S_B_D: Tensor) -> Tensor:
        """Views tokens as [F, P, B, D]."""
        return x_S_B_D.unflatten(0, (-1, self.group))


def _modulation_rows(
    held: TokenRange, tokens_per_frame: int, timesteps: int, device: torch.device
) -> tuple[slice | Tensor, int]:
    if timesteps == 1:
        return slice(0, 1), held.length
    first, last = (min(i // tokens_per_frame, timesteps - 1) for i in (held.start, held.stop - 1))
    if first == last:
        return slice(first, first + 1), held.length
    if held.start % tokens_per_frame == 0 and held.length % tokens_per_frame == 0 and held.stop <= held.num_tokens:
        return slice(first, last + 1), tokens_per_frame
    # Padding takes the last frame's row; what comes of it is dropped.
    frames = torch.arange(held.start, held.stop, device=device) // tokens_per_frame
    return frames.clamp_(max=timesteps - 1), 1

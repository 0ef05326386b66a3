"""Finite scalar quantization: a latent vector to one of a fixed grid of codes.

Source: Mentzer et al. 2023, arXiv:2309.15505; cosmos-predict1, `cosmos_predict1/tokenizer/modules/quantizers.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

_EPSILON = 1e-3
"""How far the bound reaches beyond the outermost steps, so that they can be reached at all."""


class Quantized(NamedTuple):
    """Codes and their places in the vocabulary."""

    codes_B_D_T_H_W: Tensor  # in [-1, 1], of the input's dtype; the gradient passes through the rounding
    indices_B_T_H_W: Tensor  # int32 in [0, prod(levels))


class FiniteScalarQuantizer(nn.Module):
    """Rounds each of D bounded channels to its number of steps."""

    def __init__(self, levels: Sequence[int]) -> None:
        """Make the tables, under their published names; they are constants and never in a state dict.

        Args:
            levels: L_d, steps of each channel.
        """
        super().__init__()
        basis = [math.prod(levels[:d]) for d in range(len(levels))]
        self._levels: Tensor
        self._basis: Tensor
        self.implicit_codebook: Tensor
        self.register_buffer("_levels", torch.tensor(levels, dtype=torch.int32), persistent=False)
        self.register_buffer("_basis", torch.tensor(basis, dtype=torch.int32), persistent=False)
        index = torch.arange(math.prod(levels), dtype=torch.int32)
        steps = index[:, None] // self._basis % self._levels
        half = self._levels // 2
        self.register_buffer("implicit_codebook", (steps - half) / half, persistent=False)

    def bound(self, z_X_D: Tensor) -> Tensor:
        """Squash channels (last axis) into the range of their steps.

        tanh(z + atanh(o / h)) h - o with h = (L - 1)(1 + epsilon) / 2, and o = 1/2 for even L (whose steps are not
        symmetric about 0), else 0. Computed in float32 at least: bfloat16 would move values across steps.
        """
        half = (self._levels - 1) * (1 + _EPSILON) / 2
        offset = torch.where(self._levels % 2 == 0, 0.5, 0.0)
        return (
            torch.tanh(z_X_D.to(torch.promote_types(z_X_D.dtype, torch.float32)) + torch.atanh(offset / half)) * half
            - offset
        )

    def forward(self, z_B_D_T_H_W: Tensor) -> Quantized:
        """Quantize; the straight-through gradient is that of the bound."""
        bounded = self.bound(z_B_D_T_H_W.movedim(1, -1))
        steps = bounded.detach().round()
        half = self._levels // 2
        codes = (bounded + (steps - bounded).detach()) / half
        indices = ((steps + half) * self._basis).sum(dim=-1).to(torch.int32)
        return Quantized(codes.movedim(-1, 1).to(z_B_D_T_H_W.dtype), indices)

    def codes(self, indices_B_T_H_W: Tensor) -> Tensor:
        """Look tokens up.

        Args:
            indices_B_T_H_W: integers in [0, prod(levels)).

        Returns: codes, shape [B, D, T, H, W], of the quantizer's dtype.
        """
        codes = nn.functional.embedding(indices_B_T_H_W, self.implicit_codebook)
        return codes.movedim(-1, 1)

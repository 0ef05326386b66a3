"""Haar wavelet patches: the lossless first and last step of the tokenizers.

All levels of the wavelet act on one p x p x p block of pixels and are linear, so they are one matrix of +-1 / p^3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def wavelet_matrix(patch_size: int, like: Tensor) -> Tensor:
    """The forward transform of one block of one channel.

    A level takes pairs along t, h and w to sum (L) and difference (H) over sqrt(2), then divides by 2 sqrt(2); its
    outputs are ordered LLL, LLH, LHL, LHH, HLL, HLH, HHL, HHH over (t, h, w). The next level acts on neighbours of
    all outputs, and its own letters are the more significant.

    Args:
        patch_size: p, a power of 2.
        like: has the dtype and device wanted; any dtype holds the entries exactly.

    Returns: M, shape [p^3 coefficients, p^3 pixels (t, h, w)], entries +-1 / p^3; its inverse is p^3 M^T.
    Source: cosmos-predict1, `cosmos_predict1/tokenizer/modules/patching.py`.
    """
    num_levels = patch_size.bit_length() - 1
    pair = like.new_ones(2, 2)  # rows: low, high; columns: the two pixels
    pair[1, 1] = -1
    matrix = like.new_ones(1, 1)
    for _ in range(3 * num_levels):
        matrix = torch.kron(matrix, pair)
    # Rows and columns are now bits (level N: t, h, w; ...; level 1: t, h, w), the coarsest level most significant.
    # Pixels are (t, h, w) with the coarsest level's bit most significant in each.
    columns = matrix.unflatten(1, (2,) * (3 * num_levels))
    by_axis = [1 + 3 * level + axis for axis in range(3) for level in range(num_levels)]
    return columns.permute(0, *by_axis).flatten(1) / patch_size**3


class HaarPatcher(nn.Module):
    """Video to patches."""

    def __init__(self, patch_size: int) -> None:
        """Make the published buffers, which hold constants: files list them, this code does not need them."""
        super().__init__()
        self.patch_size = patch_size
        _register_published_constants(self)
        self.register_buffer("patch_size_buffer", patch_size * torch.ones(1, dtype=torch.int32), persistent=False)

    def forward(self, video_B_C_T_H_W: Tensor, *, is_start: bool = True) -> Tensor:
        """Cut into blocks and transform each.

        Args:
            video_B_C_T_H_W: a clip. At the start of a video T is k p + 1 and the first frame is repeated p times, so
                that it stands alone; later T is k p.
            is_start: whether the clip starts a video.

        Returns: x_T_B_C_H_W, shape [ceil(T / p), B, C p^3, H / p, W / p], channels last in memory.
        """
        p = self.patch_size
        if is_start and p > 1:
            first = video_B_C_T_H_W[:, :, :1]
            video_B_C_T_H_W = torch.cat([first] * (p - 1) + [video_B_C_T_H_W], dim=2)
        x = video_B_C_T_H_W.unflatten(4, (-1, p)).unflatten(3, (-1, p)).unflatten(2, (-1, p))
        x = x.permute(2, 0, 4, 6, 3, 5, 7, 1)  # [B, C, T, p, H, p, W, p] -> [T, B, H, W, p, p, p, C]
        x = wavelet_matrix(p, x) @ x.flatten(4, 6)
        return x.flatten(4).permute(0, 1, 4, 2, 3)


class HaarUnpatcher(nn.Module):
    """Patches to video: the inverse of `HaarPatcher`."""

    def __init__(self, patch_size: int) -> None:
        """Make the published buffers; see `HaarPatcher`."""
        super().__init__()
        self.patch_size = patch_size
        _register_published_constants(self)

    def forward(self, x_T_B_C_H_W: Tensor, *, is_start: bool = True) -> Tensor:
        """Transform back and join the blocks.

        Args:
            x_T_B_C_H_W: what `HaarPatcher` returns.
            is_start: whether it starts a video; then the copies of the first frame are dropped.

        Returns: video_B_C_T_H_W.
        """
        p = self.patch_size
        x = x_T_B_C_H_W.permute(0, 1, 3, 4, 2).unflatten(4, (p**3, -1))  # [T, B, H, W, p^3, C]
        x = wavelet_matrix(p, x).mul(p**3).T @ x
        x = x.unflatten(4, (p, p, p)).permute(1, 7, 0, 4, 2, 5, 3, 6)  # [B, C, T, p, H, p, W, p]
        video = x.flatten(6, 7).flatten(4, 5).flatten(2, 3)
        return video[:, :, p - 1 :] if is_start else video


def _register_published_constants(module: nn.Module) -> None:
    """The buffers that the published files list for both directions."""
    module.register_buffer("wavelets", torch.tensor([0.7071067811865476] * 2), persistent=False)
    module.register_buffer("_arange", torch.arange(2), persistent=False)

"""Rotary position embedding over (time, height, width)."""

from __future__ import annotations

import torch
from torch import Tensor


def rope_angles(
    grid_T_H_W: tuple[int, int, int],
    head_dim: int,
    ratios: tuple[float, float, float],
    *,
    fps: Tensor | float | None = None,
    base_fps: float = 24.0,
    device: torch.device | str | None = None,
) -> Tensor:
    """Rotation angles of every token, in token order (t, h, w; w fastest).

    A head of size d is divided into d_h = d_w = 2 floor(d / 6) and d_t = d - 2 d_h. On an axis of size d_a with
    extrapolation ratio r: theta = 10000 r^(d_a / (d_a - 2)), freq_j = theta^(-2j / d_a), angle = position * freq_j.

    Args:
        grid_T_H_W: number of tokens along each axis.
        head_dim: head size d, even.
        ratios: extrapolation ratios (t, h, w).
        fps: frames per second, one number or one per sample [B]; temporal positions become t / fps * base_fps.
            None (every published Predict2 model, and images) leaves positions integer.
        base_fps: frame rate at which positions are integer.
        device: where to make the angles.

    Returns:
        angles [S, K] float32, or [S, B, K] when ``fps`` is a tensor with B entries. The d/2 angles are repeated
        once, for the half-split form of the rotation.

    Source: Cosmos-Predict2 `VideoRopePosition3DEmb`; NTK-aware scaling.
    """
    dim_h = dim_w = head_dim // 6 * 2
    dim_t = head_dim - dim_h - dim_w
    T, H, W = grid_T_H_W

    def frequencies(dim: int, ratio: float) -> Tensor:
        theta = 10000.0 * ratio ** (dim / (dim - 2))
        return 1.0 / theta ** (torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim)

    def positions(count: int) -> Tensor:
        return torch.arange(count, device=device, dtype=torch.float32)

    t = positions(T)[:, None]  # [T, 1]
    if fps is not None:
        t = t / torch.as_tensor(fps, dtype=torch.float32, device=device).reshape(1, -1) * base_fps  # [T, B]
    angles = token_angles(
        t[..., None] * frequencies(dim_t, ratios[0]),  # [T, B, d_t/2]
        torch.outer(positions(H), frequencies(dim_h, ratios[1])),
        torch.outer(positions(W), frequencies(dim_w, ratios[2])),
    )
    angles = torch.cat((angles, angles), dim=-1)
    return angles if isinstance(fps, Tensor) and fps.ndim else angles[:, 0]


def token_angles(angles_T_B: Tensor, angles_H: Tensor, angles_W: Tensor) -> Tensor:
    """Puts the angles of the three axes side by side for every token of a grid.

    Args:
        angles_T_B: of every frame, [T, B, d_t/2].
        angles_H: of every row, [H, d_h/2].
        angles_W: of every column, [W, d_w/2].

    Returns:
        [S, B, d/2] in token order (t, h, w; w fastest), channels in the order time, height, width.
    """
    T, B, _ = angles_T_B.shape
    H, W = angles_H.shape[0], angles_W.shape[0]
    return torch.cat(
        (
            angles_T_B[:, None, None].expand(T, H, W, B, -1),
            angles_H[None, :, None, None].expand(T, H, W, B, -1),
            angles_W[None, None, :, None].expand(T, H, W, B, -1),
        ),
        dim=-1,
    ).flatten(0, 2)

"""Frames for tests of media."""

import torch
from torch import Tensor


def moving_ramp(num_frames: int, height: int = 48, width: int = 64) -> Tensor:
    """Frames [T, 3, H, W], uint8, of a brightness ramp that moves; each frame differs."""
    x = torch.arange(width)[None, None, None, :] + 8 * torch.arange(num_frames)[:, None, None, None]
    tint = torch.tensor([1.0, 0.7, 0.4])[None, :, None, None]
    return ((x % 128) * 2 * tint).expand(num_frames, 3, height, width).to(torch.uint8)

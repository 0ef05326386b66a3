"""A video that plays input, generated and true frames side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cosmos_nemo.media.strip import StripRow
from cosmos_nemo.media.writing import open_writer


def write_comparison(path: str | Path, rows: Sequence[StripRow], *, num_frames: int, fps: float) -> Path:
    """Write an mp4 with the rows of a strip next to each other, from left to right.

    Args:
        path: target, replaced if it exists; complete or not at all.
        rows: what to show; a row that ends early holds its last frame.
        num_frames: length of the video.
        fps: frames per second.

    Returns:
        the path.
    """
    from moviepy import ImageSequenceClip, clips_array

    clips = [ImageSequenceClip(list(_held(row.frames_T_3_H_W, num_frames).numpy()), fps=fps) for row in rows]
    composed = clips_array([clips])
    with open_writer(path, size=(composed.h, composed.w), fps=fps) as append:
        for index in range(num_frames):
            # Amid a frame's time: at its very beginning, rounding may show the one before.
            picture_H_W_3 = torch.from_numpy(composed.get_frame((index + 0.5) / fps).astype("uint8"))
            append(picture_H_W_3.permute(2, 0, 1)[None])
    return Path(path)


def _held(frames_T_3_H_W: Tensor, num_frames: int) -> Tensor:
    """Cut or hold the last frame: [T, 3, H, W] -> [num_frames, H, W, 3]."""
    index = torch.arange(num_frames).clamp(max=len(frames_T_3_H_W) - 1)
    return frames_T_3_H_W[index].permute(0, 2, 3, 1).contiguous()

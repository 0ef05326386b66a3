"""A video that plays input, generated and true frames side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cosmos_nemo.files import staged
from cosmos_nemo.media.strip import StripRow


def write_comparison(path: str | Path, rows: Sequence[StripRow], *, num_frames: int, fps: float) -> Path:
    """Write an H.264 mp4 with the rows of a strip next to each other, from left to right.

    Args:
        path: target, replaced if it exists; complete or not at all.
        rows: what to show; a row that ends early holds its last frame.
        num_frames: length of the video.
        fps: frames per second.

    Returns:
        the path.
    """
    from moviepy import ImageSequenceClip, clips_array

    path = Path(path)
    clips = [ImageSequenceClip(list(_held(row.frames_T_3_H_W, num_frames).numpy()), fps=fps) for row in rows]
    with staged(path, overwrite=True) as temporary:
        # The audio file that moviepy would name after the target is not wanted; neither is its own progress bar.
        clips_array([clips]).write_videofile(
            str(temporary), fps=fps, codec="libx264", audio=False, logger=None, pixel_format="yuv420p"
        )
    return path


def _held(frames_T_3_H_W: Tensor, num_frames: int) -> Tensor:
    """Cut or hold the last frame: [T, 3, H, W] -> [num_frames, H, W, 3]."""
    index = torch.arange(num_frames).clamp(max=len(frames_T_3_H_W) - 1)
    return frames_T_3_H_W[index].permute(0, 2, 3, 1).contiguous()

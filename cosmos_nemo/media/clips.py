"""Read the pictures and clips that a user names, and convert frames to what networks take and back."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from cosmos_nemo.errors import UserError
from cosmos_nemo.media.frames import read_frames
from cosmos_nemo.media.pictures import VideoError, read_image, resize, to_unit
from cosmos_nemo.media.probe import probe_video
from cosmos_nemo.media.suffixes import IMAGE_SUFFIXES, is_image


def read_clip(path: str | Path, *, last: int | None = None, first: int | None = None) -> Tensor:
    """Decode an image, or the last or first frames of a video.

    Args:
        path: image or video file.
        last: keep at most this many frames from the end.
        first: stop after this many frames.

    Returns:
        frames_T_3_H_W, uint8 RGB; an image is one frame, and a video may hold fewer frames than asked for.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"Input {path} does not exist; give an image ({', '.join(IMAGE_SUFFIXES)}) or a video.")
    try:
        if is_image(path.name):
            return read_image(path)[None]
        probe = probe_video(path)
        count = min(value for value in (first, last, probe.num_frames) if value is not None)
        start = probe.num_frames - count if last is not None else 0
        return read_frames(path, probe, start=start, num_frames=count).permute(1, 0, 2, 3)
    except VideoError as error:
        kind = "image" if is_image(path.name) else "video"
        raise UserError(f"Input {kind} {path} cannot be read: {error}.") from error


def cover_and_crop(frames_T_3_H_W: Tensor, height: int, width: int) -> Tensor:
    """Scale to cover the target size (antialiased, size rounded up) and crop its centre.

    With ratio = max(width / w, height / h) nothing is distorted and no border appears.

    Args:
        frames_T_3_H_W: uint8 RGB.
        height: target height.
        width: target width.

    Returns:
        frames_T_3_H_W of the target size, uint8.

    Source: cosmos-predict2, `cosmos_predict2/pipelines/video2world.py` (resize_input).
    """
    return resize(frames_T_3_H_W, (height, width), fit="cover_ceil")


def to_video(frames_T_3_H_W: Tensor) -> Tensor:
    """Convert uint8 frames to one video in [-1, 1]: float32, shape [1, 3, T, H, W]."""
    return to_unit(frames_T_3_H_W.permute(1, 0, 2, 3)[None].contiguous())


def to_frames(video_1_3_T_H_W: Tensor) -> Tensor:
    """Convert one video in [-1, 1] to uint8 frames on the CPU, shape [T, 3, H, W]; the inverse of `to_video`."""
    frames_T_3_H_W = video_1_3_T_H_W[0].permute(1, 0, 2, 3)
    return ((frames_T_3_H_W.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()

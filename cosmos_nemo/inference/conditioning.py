"""Turns the input image or clip into the frames and latents that a generated clip begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cosmos_nemo.diffusion.denoising import Objective
from cosmos_nemo.errors import UserError
from cosmos_nemo.media.clips import cover_and_crop, read_clip, to_video
from cosmos_nemo.media.suffixes import is_image
from cosmos_nemo.tokenizers.base import VideoTokenizer


def conditional_latent_frames(num_frames: int, tokenizer: VideoTokenizer, objective: Objective[Any]) -> int:
    """Return the latent frames of `num_frames` given pixel frames.

    Raises:
        UserError: the network was not trained to continue so many.
    """
    legal = [1 + (count - 1) * tokenizer.temporal_compression for count in objective.given_frame_counts]
    if num_frames not in legal:
        raise UserError(
            f"--num-conditional-frames {num_frames} is not possible with this video tokenizer; "
            f"use {' or '.join(map(str, legal))}."
        )
    return tokenizer.latent_frames(num_frames)


def read_conditional_frames(
    path: str | Path,
    *,
    count: int,
    height: int,
    width: int,
    from_start: bool = False,
    flag: str = "--num-conditional-frames",
) -> Tensor:
    """Read the frames that the generated clip begins with.

    An image gives one frame; of a video the last `count` frames are taken, so that the result continues it.

    Args:
        path: image or video.
        count: frames wanted.
        height: target height.
        width: target width.
        from_start: take the first frames of a video instead.
        flag: that chose `count`, for the message.

    Returns:
        frames_T_3_H_W, uint8, T = count.

    Raises:
        UserError: unreadable, or fewer frames than `count`.
    """
    frames = read_clip(path, first=count) if from_start else read_clip(path, last=count)
    if len(frames) < count:
        kind = "an image" if is_image(Path(path).name) else f"a video of {len(frames)} frame(s)"
        raise UserError(
            f"Input {path} is {kind}, but {flag} {count} needs {count} frames; use {flag} 1 or a longer video."
        )
    return cover_and_crop(frames, height, width)


def encode_conditional_frames(frames_T_3_H_W: Tensor, tokenizer: VideoTokenizer, latent_frames: int) -> Tensor:
    """Encode the given frames as the first latent frames of a clip; the others are zero and must be masked.

    The tokenizer is causal, so the first latent frames do not depend on the pixels that follow: encoding the
    given frames alone equals encoding the whole clip with its filling (black, or the last frame repeated).

    Args:
        frames_T_3_H_W: as many frames as make whole latent frames, uint8.
        tokenizer: the video tokenizer.
        latent_frames: latent frames of the whole clip.

    Returns:
        gt_frames_1_C_T_H_W, float32.
    """
    given = tokenizer.encode(to_video(frames_T_3_H_W))
    gt_frames = given.new_zeros(*given.shape[:2], latent_frames, *given.shape[3:])
    gt_frames[:, :, : given.shape[2]] = given
    return gt_frames


def first_frames_mask(gt_frames_1_C_T_H_W: Tensor, count: int) -> Tensor:
    """Condition mask [1, 1, T, H, W], float32: 1 on the first `count` latent frames."""
    mask = torch.zeros_like(gt_frames_1_C_T_H_W[:, :1], dtype=torch.float32)
    mask[:, :, :count] = 1
    return mask

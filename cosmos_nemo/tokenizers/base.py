"""What a video tokenizer offers, whatever network is inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cosmos_nemo.errors import UserError

if TYPE_CHECKING:  # options are checked without torch
    from torch import Tensor


class AnyVideoTokenizer(Protocol):
    """What both kinds have."""

    temporal_compression: int  # pixel frames per latent frame, after the first frame, which stands alone
    spatial_compression: int  # pixels per latent (or token) in height and width
    path: Path  # where it was loaded from
    files: tuple[Path, ...]  # the files that determine its results

    def latent_frames(self, num_frames: int) -> int:
        """Latent frames of a clip of `num_frames` pixel frames."""
        ...


class VideoTokenizer(AnyVideoTokenizer, Protocol):
    """Pixels to latents and back."""

    latent_channels: int  # C of the latents

    def encode(self, video_B_3_T_H_W: Tensor) -> Tensor:
        """Encode a clip.

        Args:
            video_B_3_T_H_W: RGB in [-1, 1], float.

        Returns: normalised latents, shape [B, C, T', H', W'], float32; the same for the same input.
        """
        ...

    def decode(self, latent_B_C_T_H_W: Tensor) -> Tensor:
        """Decode normalised latents.

        Args:
            latent_B_C_T_H_W: what `encode` returns.

        Returns: RGB in [-1, 1], shape [B, 3, T, H, W], float32.
        """
        ...


class DiscreteVideoTokenizer(AnyVideoTokenizer, Protocol):
    """Pixels to tokens and back."""

    vocab_size: int  # tokens are in [0, vocab_size)

    def encode(self, video_B_3_T_H_W: Tensor) -> Tensor:
        """Encode a clip.

        Args:
            video_B_3_T_H_W: RGB in [-1, 1], float.

        Returns: tokens_B_T_H_W, int32; the same for the same input.
        """
        ...

    def decode(self, tokens_B_T_H_W: Tensor) -> Tensor:
        """Decode tokens.

        Args:
            tokens_B_T_H_W: what `encode` returns; any integer type.

        Returns: RGB in [-1, 1], shape [B, 3, T, H, W], float32.
        """
        ...


def latent_frames(num_frames: int, temporal_compression: int) -> int:
    """Latent frames of a causal tokenizer: `1 + (num_frames - 1) / temporal_compression`.

    Raises:
        UserError: `num_frames` is not of the form `k * temporal_compression + 1`; the message names its neighbours.
    """
    chunks, rest = divmod(num_frames - 1, temporal_compression)
    if num_frames < 1 or rest:
        below = max(chunks, 0) * temporal_compression + 1
        raise UserError(
            f"num_frames={num_frames} does not fit the video tokenizer: use {below} or "
            f"{below + temporal_compression} (a multiple of {temporal_compression}, plus 1)"
        )
    return 1 + chunks

"""Pictures: which way is up, how they are fitted to a size, and image files."""

import io
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cosmos_nemo.media.fit import Fit

Size = tuple[int, int]
"""(height, width) in pixels."""

_FILTER = {"stretch": "bilinear", "cover": "bicubic", "cover_ceil": "bilinear"}
_ROUND: dict[str, Callable[[float], int]] = {"cover": lambda x: int(x + 0.5), "cover_ceil": math.ceil}


class VideoError(ValueError):
    """A video or picture that cannot be used; the message says why in a few words."""


@dataclass(frozen=True, kw_only=True)
class Orientation:
    """One of the eight ways a camera can have been held: first transpose, then flip."""

    transposed: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    @staticmethod
    def from_matrix(content: bytes) -> "Orientation":
        """Read FFmpeg's display matrix: nine 32-bit integers, of which [x y] @ [[a b] [c d]] turns the picture.

        Raises:
            VideoError: it turns by other angles than quarter turns.
        """
        a, b, _, c, d, _, _, _, _ = struct.unpack("=9i", content)
        straight, across = min(abs(a), abs(d)), min(abs(b), abs(c))
        if max(abs(b), abs(c)) * 100 < straight:
            return Orientation(flip_rows=d < 0, flip_columns=a < 0)
        if max(abs(a), abs(d)) * 100 < across:
            return Orientation(transposed=True, flip_rows=b < 0, flip_columns=c < 0)
        raise VideoError("unusable: rotated by an angle that is not a quarter turn; re-encode it upright")

    def apply(self, image_H_W_C: Tensor) -> Tensor:
        """Turn the picture upright; the result is a view if possible."""
        if self.transposed:
            image_H_W_C = image_H_W_C.transpose(0, 1)
        flipped = [dim for dim, flip in enumerate((self.flip_rows, self.flip_columns)) if flip]
        return image_H_W_C.flip(flipped) if flipped else image_H_W_C

    def turn(self, size: Size) -> Size:
        """Return the size of the upright picture."""
        return (size[1], size[0]) if self.transposed else size


def resize(image_3_H_W: Tensor, size: Size, *, fit: Fit = "stretch", display_size: Size | None = None) -> Tensor:
    """Fit a picture, or several, to a size, with antialiasing.

    uint8 all the way agrees with upstream's float32 to one grey level and takes a sixth of the time.

    Args:
        image_3_H_W: uint8, any leading axes.
        size: of the result.
        fit: how; see `Fit`.
        display_size: the size in square pixels, where the picture's are not square. Only its aspect ratio matters.

    Returns:
        uint8; the picture itself if it has the size already.
    """
    h, w = display_size or tuple(image_3_H_W.shape[-2:])
    scaled = size if fit == "stretch" else _covering((h, w), size, _ROUND[fit])
    if tuple(image_3_H_W.shape[-2:]) != scaled:
        flat = image_3_H_W.reshape(-1, *image_3_H_W.shape[-3:])
        flat = torch.nn.functional.interpolate(flat, size=scaled, mode=_FILTER[fit], antialias=True)
        image_3_H_W = flat.reshape(*image_3_H_W.shape[:-2], *scaled)
    top, left = round((scaled[0] - size[0]) / 2), round((scaled[1] - size[1]) / 2)
    return image_3_H_W[..., top : top + size[0], left : left + size[1]]


def _covering(found: Size, wanted: Size, to_int: Callable[[float], int]) -> Size:
    ratio = max(wanted[1] / found[1], wanted[0] / found[0])
    return max(wanted[0], to_int(ratio * found[0])), max(wanted[1], to_int(ratio * found[1]))


def to_unit(pixels: Tensor) -> Tensor:
    """Convert uint8 pixels to float32 in [-1, 1], in one new tensor: a second would cost more than the arithmetic."""
    return pixels.float().div_(127.5).sub_(1.0)


def read_image(source: Path | str | bytes) -> Tensor:
    """Read a picture file, upright.

    Args:
        source: the file, or its content.

    Returns:
        uint8 RGB, shape [3, H, W].

    Raises:
        VideoError: it cannot be read.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            upright = ImageOps.exif_transpose(image)
            return torch.from_numpy(np.array(upright.convert("RGB"))).permute(2, 0, 1)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise VideoError(f"unreadable: {reason_of(error)}") from error


def reason_of(error: BaseException) -> str:
    """Return the few words of a library's exception that people can use."""
    text = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
    return str(text)

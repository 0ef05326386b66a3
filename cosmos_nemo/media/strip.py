"""A picture that lays input, generated and true frames side by side in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cosmos_nemo.files import staged

CELL_HEIGHT = 160
"""Height of a frame in the strip, pixels; the width follows from the aspect ratio."""
LABEL_WIDTH = 92
HEADER_HEIGHT = 24
GAP = 4
INK, PAPER, EMPTY = (20, 20, 20), (255, 255, 255), (228, 228, 228)


@dataclass(frozen=True, kw_only=True)
class StripRow:
    """One row of a strip."""

    label: str
    """Shown at its left."""
    frames_T_3_H_W: Tensor
    """uint8 RGB from time 0; columns beyond its end stay empty."""


def even_indices(num_frames: int, columns: int) -> list[int]:
    """Return frame numbers evenly spaced from the first to the last, without repetition."""
    columns = min(columns, num_frames)
    return [round(i * (num_frames - 1) / max(1, columns - 1)) for i in range(columns)]


def draw_strip(rows: Sequence[StripRow], *, num_frames: int, fps: float, columns: int = 8) -> Image.Image:
    """Draw the rows, one column per moment.

    Args:
        rows: from top to bottom.
        num_frames: length of the clip that the columns span.
        fps: frames per second, for the time over each column.
        columns: number of moments.

    Returns:
        the picture.
    """
    moments = even_indices(num_frames, columns)
    height, width = rows[0].frames_T_3_H_W.shape[-2:]
    cell = (max(1, round(CELL_HEIGHT * width / height)), CELL_HEIGHT)
    size = (
        LABEL_WIDTH + len(moments) * (cell[0] + GAP),
        HEADER_HEIGHT + len(rows) * (cell[1] + GAP),
    )
    picture = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=14)
    for column, moment in enumerate(moments):
        x = LABEL_WIDTH + column * (cell[0] + GAP)
        draw.text((x + 2, 4), f"{moment / fps:.2f} s  #{moment}", fill=INK, font=font)
        for line, row in enumerate(rows):
            y = HEADER_HEIGHT + line * (cell[1] + GAP)
            if moment < len(row.frames_T_3_H_W):
                picture.paste(_thumbnail(row.frames_T_3_H_W[moment], cell), (x, y))
            else:
                draw.rectangle((x, y, x + cell[0] - 1, y + cell[1] - 1), fill=EMPTY)
    for line, row in enumerate(rows):
        draw.text((6, HEADER_HEIGHT + line * (cell[1] + GAP) + cell[1] // 2 - 8), row.label, fill=INK, font=font)
    return picture


def write_strip(path: str | Path, rows: Sequence[StripRow], *, num_frames: int, fps: float, columns: int = 8) -> Path:
    """Draw a strip (see `draw_strip`) and write it as PNG; complete or not at all."""
    path = Path(path)
    picture = draw_strip(rows, num_frames=num_frames, fps=fps, columns=columns)
    with staged(path, overwrite=True) as temporary:
        picture.save(temporary, format="PNG")
    return path


def _thumbnail(frame_3_H_W: Tensor, size: tuple[int, int]) -> Image.Image:
    """Scale a frame to a cell (width, height)."""
    pixels = frame_3_H_W.permute(1, 2, 0).to(torch.uint8).contiguous().numpy()
    return Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)

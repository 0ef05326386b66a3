"""Long and large clips through a network in bounded memory: pieces in time, tiles in space.

Pieces are exact. The networks are causal, so a piece needs only what the pieces before left in the `Memory`; all that
grows with the length of the clip are the keys and values of the middle block's attention, at the latent resolution.

Tiles are not exact, because norms and attention see whole frames: each is coded alone, and where tiles overlap their
results are blended linearly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.cosmos.config import CosmosTokenizerConfig
from cosmos_nemo.tokenizers.cosmos.layers import Memory

Step = Callable[[Tensor, Memory], Tensor]
"""Codes one piece: `network.pre_quant`, `network.decode` or the like."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much is coded at once."""

    pixels_per_piece: int = 8 * 720 * 1280
    """Frames x height x width of a piece; at least one latent frame's worth is taken."""
    tile_above_pixels: int = 1280 * 1280
    """Frames with more pixels are cut into tiles. The published sizes are coded whole, as the networks were trained."""
    tile_pixels: int = 640
    """Side of a tile."""
    tile_overlap: float = 0.25
    """Share of a tile's side that it has in common with its neighbour."""

    def __post_init__(self) -> None:
        if self.pixels_per_piece < 1 or self.tile_pixels < 1 or not 0 <= self.tile_overlap < 1:
            raise UserError(f"{self} must have positive sizes and an overlap in [0, 1).")


@dataclass(frozen=True, kw_only=True)
class Span:
    """A tile's place along one axis, in latents."""

    start: int
    stop: int
    before: int
    """Overlap with the tile before; 0 for the first."""
    after: int
    """Overlap with the tile after; 0 for the last."""

    def ramp(self, unit: int) -> Tensor:
        """Weights of the tile's `unit` pixels per latent: rising, 1, falling."""
        length = (self.stop - self.start) * unit
        position = torch.arange(length, dtype=torch.float32) + 0.5
        rise = position / (self.before * unit) if self.before else torch.ones(length)
        fall = (length - position) / (self.after * unit) if self.after else torch.ones(length)
        return torch.minimum(rise, fall).clamp(max=1)


class Stream:
    """Codes a video that arrives piece by piece. Make a new one for every video."""

    def __init__(self, step: Step, limits: Limits, *, unit_in: int, unit_out: int) -> None:
        """Start a video.

        Args:
            step: codes one piece of one tile: `network.pre_quant`, `network.decode` or the like.
            limits: when to cut tiles, and how.
            unit_in: pixels of the input per latent in height and width: the compression where the input is a video.
            unit_out: the same for the output.
        """
        self.step, self.limits = step, limits
        self.unit_in, self.unit_out = unit_in, unit_out
        self.memories: dict[tuple[int, int], Memory] = {}

    def __call__(self, x_B_C_T_H_W: Tensor) -> Tensor:
        """Code the next piece."""
        height, width = (size // self.unit_in for size in x_B_C_T_H_W.shape[3:])  # in latents
        scale = max(self.unit_in, self.unit_out)
        if height * width * scale**2 <= self.limits.tile_above_pixels:
            return self.step(x_B_C_T_H_W, self.memories.setdefault((0, 0), {}))
        side = max(1, self.limits.tile_pixels // scale)
        tiles = [
            (rows, columns, self._tile(x_B_C_T_H_W, rows, columns))
            for rows in tile_spans(height, side, self.limits.tile_overlap)
            for columns in tile_spans(width, side, self.limits.tile_overlap)
        ]
        return _blend(tiles, height=height, width=width, unit=self.unit_out)

    def _tile(self, x_B_C_T_H_W: Tensor, rows: Span, columns: Span) -> Tensor:
        memory = self.memories.setdefault((rows.start, columns.start), {})
        unit = self.unit_in
        part = x_B_C_T_H_W[..., rows.start * unit : rows.stop * unit, columns.start * unit : columns.stop * unit]
        return self.step(part, memory)


def tile_spans(size: int, side: int, overlap: float) -> list[Span]:
    """Cut an axis into tiles of equal side.

    Args:
        size: of the axis, in latents.
        side: of a tile; a shorter axis is one tile.
        overlap: least share of a side that neighbours have in common.
    """
    if size <= side:
        return [Span(start=0, stop=size, before=0, after=0)]
    step = max(1, side - math.ceil(side * overlap))
    count = math.ceil((size - side) / step) + 1
    starts = [round(i * (size - side) / (count - 1)) for i in range(count)]
    stops = [start + side for start in starts]
    shared = [0, *(stop - start for stop, start in zip(stops, starts[1:], strict=False)), 0]
    return [
        Span(start=a, stop=b, before=shared[i], after=shared[i + 1])
        for i, (a, b) in enumerate(zip(starts, stops, strict=True))
    ]


def split_time(num_frames: int, *, frames_at_once: int, compression: int) -> list[tuple[int, int]]:
    """Cut a video's frames into pieces.

    Args:
        num_frames: k * compression + 1; latent frames with compression 1.
        frames_at_once: about how many; at least one latent frame's worth is taken.
        compression: frames per latent frame after the first.

    Returns: [start, stop) of each piece; the first has one frame more than a multiple of the compression.
    """
    step = max(1, frames_at_once // compression) * compression
    bounds = [0, *range(1 + max(0, step - compression), num_frames, step), num_frames]
    return list(pairwise(bounds))


def encode(step: Step, config: CosmosTokenizerConfig, video_B_3_T_H_W: Tensor, limits: Limits) -> Tensor:
    """Encode a clip of any length and size.

    Args:
        step: encodes a piece, e.g. `network.pre_quant`.
        config: the network's.
        video_B_3_T_H_W: RGB in [-1, 1]; T is k * temporal_compression + 1, H and W multiples of spatial_compression.
        limits: how much at once.

    Returns: z_B_C_T_H_W.
    """
    _, _, num_frames, height, width = video_B_3_T_H_W.shape
    stream = Stream(step, limits, unit_in=config.spatial_compression, unit_out=1)
    at_once = limits.pixels_per_piece // (height * width)
    spans = split_time(num_frames, frames_at_once=at_once, compression=config.temporal_compression)
    return torch.cat([stream(video_B_3_T_H_W[:, :, start:stop]) for start, stop in spans], dim=2)


def decode(step: Step, config: CosmosTokenizerConfig, latent_B_C_T_H_W: Tensor, limits: Limits) -> Tensor:
    """Decode latents or codes of any length and size.

    Args:
        step: decodes a piece, e.g. `network.decode`.
        config: the network's.
        latent_B_C_T_H_W: latents or codes.
        limits: how much at once.

    Returns: video_B_3_T_H_W.
    """
    _, _, num_latents, height, width = latent_B_C_T_H_W.shape
    scale = config.spatial_compression
    stream = Stream(step, limits, unit_in=1, unit_out=scale)
    at_once = limits.pixels_per_piece // (height * width * scale**2 * config.temporal_compression)
    spans = split_time(num_latents, frames_at_once=at_once, compression=1)
    return torch.cat([stream(latent_B_C_T_H_W[:, :, start:stop]) for start, stop in spans], dim=2)


def _blend(tiles: list[tuple[Span, Span, Tensor]], *, height: int, width: int, unit: int) -> Tensor:
    """Join tiles: where several cover a place, their mean weighted by how deep inside each it lies."""
    first = tiles[0][2]
    shape = (*first.shape[:3], height * unit, width * unit)
    total = first.new_zeros(shape, dtype=torch.float32)
    weight = first.new_zeros(shape[3:], dtype=torch.float32)
    for rows, columns, tile in tiles:
        ramp = (rows.ramp(unit)[:, None] * columns.ramp(unit)).to(tile.device)
        place = (slice(rows.start * unit, rows.stop * unit), slice(columns.start * unit, columns.stop * unit))
        total[(..., *place)] += tile * ramp
        weight[place] += ramp
    return (total / weight).to(first.dtype)

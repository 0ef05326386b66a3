"""Measure the latents of a continuous tokenizer on videos, and write their statistics beside it to normalise them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor

from cosmos_nemo.errors import UserError
from cosmos_nemo.inference.tokenizer_options import LatentStatisticsOptions
from cosmos_nemo.media.frames import read_frames
from cosmos_nemo.media.pictures import VideoError, to_unit
from cosmos_nemo.media.probe import probe_video
from cosmos_nemo.media.suffixes import VIDEO_SUFFIXES
from cosmos_nemo.platform.devices import pick_device
from cosmos_nemo.tokenizers.cosmos.jit import MEAN_STD, write_mean_std
from cosmos_nemo.tokenizers.cosmos.tokenizer import (
    ContinuousVideoTokenizer,
    latent_statistics,
    load_cosmos_tokenizer,
)

logger = logging.getLogger(__name__)


def write_latent_statistics(options: LatentStatisticsOptions) -> str:
    """Write `mean_std.pt` into a tokenizer's folder.

    Returns:
        a line saying what was written.

    Raises:
        UserError: there are statistics already, the tokenizer has no continuous latents, or no video can be read.
    """
    folder = options.tokenizer.expanduser()
    if (folder / MEAN_STD).exists() and not options.overwrite:
        raise UserError(f"{folder / MEAN_STD} exists already; give --overwrite to replace it.")
    loaded = load_cosmos_tokenizer(folder, device=pick_device(options.device))
    if not isinstance(loaded, ContinuousVideoTokenizer):
        raise UserError(f"{folder} is a {loaded.config.name} tokenizer; tokens need no statistics.")
    plain = loaded.without_statistics()
    files = _files(options.videos)[: options.max_videos]
    used: list[Path] = []
    mean, std = latent_statistics(plain, _clips(files, plain, options.num_frames, used))
    write_mean_std(folder, (mean, std))
    return f"wrote {folder / MEAN_STD}: {len(used)} of {len(files)} videos, standard deviation {std.mean():.3f}"


def _files(places: Iterable[Path]) -> list[Path]:
    """Find video files at or in the places, sorted.

    Raises:
        UserError: a place does not exist, or there is none.
    """
    files: list[Path] = []
    for place in places:
        if not place.exists():
            raise UserError(f"no videos at {place}")
        files += (
            sorted(f for f in place.rglob("*") if f.suffix.lower() in VIDEO_SUFFIXES) if place.is_dir() else [place]
        )
    if not files:
        raise UserError("no videos to measure latents on")
    return files


def _clips(
    files: list[Path], tokenizer: ContinuousVideoTokenizer, num_frames: int, used: list[Path]
) -> Iterator[Tensor]:
    """Read the first frames of every readable file, cropped to a legal size."""
    scale, compression = tokenizer.spatial_compression, tokenizer.temporal_compression
    for file in files:
        try:
            probe = probe_video(file)
            length = min(num_frames, tokenizer.chunk_frames, probe.num_frames)
            length = 1 + (length - 1) // compression * compression
            height, width = probe.height // scale * scale, probe.width // scale * scale
            if not height or not width:
                raise VideoError(f"smaller than {scale}x{scale}")
            video_3_T_H_W = read_frames(file, probe, start=0, num_frames=length)
        except VideoError as error:
            logger.warning("%s is skipped: %s", file, error)
            continue
        used.append(file)
        yield to_unit(video_3_T_H_W[None, :, :, :height, :width])

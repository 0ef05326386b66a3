"""Options of the commands that judge and measure a video tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cosmos_nemo.tokenizers.cosmos.config import CHUNK_FRAMES


@dataclass(frozen=True, kw_only=True)
class ReconstructOptions:
    """Options of a reconstruction."""

    input: Path
    """Video to encode and decode."""
    output: Path
    """The .mp4 to write: original | reconstruction."""
    tokenizer: Path
    """Cosmos tokenizer folder (autoencoder.jit ...), or a Wan VAE."""
    chunk_frames: int = CHUNK_FRAMES
    """Frames after which coding starts afresh; the published tokenizers were trained on at most 121."""
    max_frames: int | None = None
    """Stop after this many frames."""
    device: str | None = None
    """Where the tokenizer runs, cpu or cuda; if omitted, cuda if there is a GPU."""


@dataclass(frozen=True, kw_only=True)
class LatentStatisticsOptions:
    """Options of a measurement of latents."""

    tokenizer: Path
    """Folder of a continuous Cosmos tokenizer; mean_std.pt is written into it."""
    videos: tuple[Path, ...]
    """Videos like those to be encoded: files or folders."""
    num_frames: int = CHUNK_FRAMES
    """Frames taken from the start of each video, at most."""
    max_videos: int = 100
    """Stop after this many videos."""
    overwrite: bool = False
    """Replace statistics that exist already."""
    device: str | None = None
    """Where the tokenizer runs, cpu or cuda; if omitted, cuda if there is a GPU."""

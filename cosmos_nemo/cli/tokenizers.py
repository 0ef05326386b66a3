"""Commands that judge and measure a video tokenizer."""

from __future__ import annotations

from typing import Any

from cosmos_nemo.inference.tokenizer_options import LatentStatisticsOptions, ReconstructOptions
from cosmos_nemo.options import takes


@takes(ReconstructOptions, arguments=("input", "output"))
def reconstruct(**choices: Any) -> None:
    """Show what a video tokenizer keeps: side by side as a video, PSNR and SSIM as numbers."""
    from cosmos_nemo.inference import reconstruct as room

    print(room.reconstruct(ReconstructOptions(**choices)))


@takes(LatentStatisticsOptions, arguments=("tokenizer", "videos"))
def latent_statistics(**choices: Any) -> None:
    """Measure a post-trained tokenizer's latents, so that it normalises them for a diffusion model."""
    from cosmos_nemo.inference.latent_statistics import write_latent_statistics

    print(write_latent_statistics(LatentStatisticsOptions(**choices)))

"""How good reconstructions are, and how well a codebook is used."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.losses.terms import frames_of

FLOAT32_EPSILON = 1.1920929e-07
SSIM_WINDOW = 7
SSIM_MINIMUM = 11
"""Pixels; the Gaussian window of `ssim`."""


def to_uint8(video_B_3_T_H_W: Tensor) -> Tensor:
    """Frames in [-1, 1] as pixels, [N, 3, H, W] uint8: clamped, scaled to 255 and rounded."""
    return ((frames_of(video_B_3_T_H_W).float() * 0.5 + 0.5).clamp(0, 1) * 255 + 0.5).to(torch.uint8)


def psnr(video_B_3_T_H_W: Tensor, reconstruction_B_3_T_H_W: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of every frame, dB.

    10 log10(255^2 / (mean squared difference + epsilon)) of rounded pixels.

    Args:
        video_B_3_T_H_W: RGB in [-1, 1].
        reconstruction_B_3_T_H_W: the same.

    Returns: psnr_N, N = B * T, float32.
    Source: cosmos-predict1, `cosmos_predict1/tokenizer/training/metrics.py`.
    """
    difference = to_uint8(video_B_3_T_H_W).float() - to_uint8(reconstruction_B_3_T_H_W).float()
    error = difference.square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(255.0**2 / (error + FLOAT32_EPSILON))


def uniform_ssim(video_B_3_T_H_W: Tensor, reconstruction_B_3_T_H_W: Tensor) -> Tensor:
    """Structural similarity of every frame, with a uniform window of 7x7 and sample covariance, on rounded pixels.

    What scikit-image's `structural_similarity(data_range=255, channel_axis=-1)` computes, which upstream reports.

    Returns: ssim_N, N = B * T, float64.
    """
    x, y = (to_uint8(v).double() for v in (video_B_3_T_H_W, reconstruction_B_3_T_H_W))
    if min(x.shape[2:]) < SSIM_WINDOW:
        raise UserError(f"SSIM needs frames of at least {SSIM_WINDOW}x{SSIM_WINDOW}, not {list(x.shape[2:])}")

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, SSIM_WINDOW, stride=1)

    mean_x, mean_y = mean(x), mean(y)
    unbiased = SSIM_WINDOW**2 / (SSIM_WINDOW**2 - 1)
    var_x = unbiased * (mean(x * x) - mean_x * mean_x)
    var_y = unbiased * (mean(y * y) - mean_y * mean_y)
    covariance = unbiased * (mean(x * y) - mean_x * mean_y)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    below = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return (above / below).mean(dim=(1, 2, 3))


def ssim(video_B_3_T_H_W: Tensor, reconstruction_B_3_T_H_W: Tensor) -> Tensor:
    """Structural similarity of every frame as torchmetrics computes it: a Gaussian window of 11x11, sigma 1.5.

    Args:
        video_B_3_T_H_W: RGB in [-1, 1].
        reconstruction_B_3_T_H_W: the same.

    Returns: ssim_N, N = B * T, float32.

    Raises:
        UserError: frames smaller than the window.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    x, y = (frames_of(v).float() * 0.5 + 0.5 for v in (video_B_3_T_H_W, reconstruction_B_3_T_H_W))
    if min(x.shape[2:]) < SSIM_MINIMUM:
        raise UserError(f"SSIM needs frames of at least {SSIM_MINIMUM}x{SSIM_MINIMUM}, not {list(x.shape[2:])}")
    value: Tensor = structural_similarity_index_measure(y.clamp(0, 1), x, data_range=1.0, reduction="none")
    return value.reshape(-1)


@dataclass(frozen=True, kw_only=True)
class CodebookUse:
    """How a set of tokens spreads over the vocabulary."""

    entropy: float
    """-Sum p log2 p, bits; log2(vocab_size) if all tokens are equally frequent."""
    perplexity: float
    """exp of the entropy in nats: how many equally frequent tokens would be as varied."""
    dead: int
    """Tokens of the vocabulary that do not occur."""
    num_tokens: int
    """Tokens counted."""


def count_tokens(indices: Tensor, vocab_size: int) -> Tensor:
    """How often each token occurs, int64 [vocab_size]; counts of several batches and ranks can be added."""
    return torch.bincount(indices.flatten().long(), minlength=vocab_size)


def codebook_use(counts: Tensor) -> CodebookUse:
    """Describe token counts.

    Args:
        counts: see `count_tokens`.

    Source: cosmos-predict1, `cosmos_predict1/tokenizer/training/metrics.py` (perplexity).
    """
    share = counts.double() / counts.sum().clamp(min=1)
    nats = -(share * torch.log(share + FLOAT32_EPSILON)).sum()
    present = share[share > 0]
    return CodebookUse(
        entropy=-(present * present.log2()).sum().item(),
        perplexity=nats.exp().item(),
        dead=int((counts == 0).sum()),
        num_tokens=int(counts.sum()),
    )


class FrechetVideoDistance:
    """Distance of two sets of clips by the Gaussian statistics of their features (rFVD for reconstructions).

    |mu - mu'|^2 + tr(C + C' - 2 (C C')^(1/2)). Source: Unterthiner et al. 2018, arXiv:1812.01717.
    """

    def __init__(self, features: Callable[[Tensor], Tensor]) -> None:
        """Start with nothing.

        Args:
            features: video_B_3_T_H_W in [-1, 1] -> features_B_D; see `load_i3d`.
        """
        self._features = features
        self._seen: tuple[list[Tensor], list[Tensor]] = ([], [])

    @torch.no_grad()
    def update(self, video_B_3_T_H_W: Tensor, reconstruction_B_3_T_H_W: Tensor) -> None:
        """Add clips and what became of them."""
        for seen, video in zip(self._seen, (video_B_3_T_H_W, reconstruction_B_3_T_H_W), strict=True):
            seen.append(self._features(video.float().clamp(-1, 1)).double().cpu())

    def features(self) -> tuple[Tensor, Tensor]:
        """Features of the clips and of what became of them, features_N_D each, float64, on the CPU."""
        clips, reconstructions = (torch.cat(parts) if parts else torch.empty(0, 0) for parts in self._seen)
        return clips, reconstructions

    def compute(self) -> float:
        """The distance of what was added.

        Raises:
            UserError: fewer than two clips.
        """
        clips, reconstructions = self.features()
        if len(clips) < 2:
            raise UserError("rFVD needs at least two clips")
        return frechet_distance(clips, reconstructions)


def frechet_distance(features_N_D: Tensor, other_N_D: Tensor) -> float:
    """The Frechet distance of Gaussians fitted to two sets of vectors; see `FrechetVideoDistance`."""
    means = [features.double().mean(dim=0) for features in (features_N_D, other_N_D)]
    c1, c2 = (torch.atleast_2d(torch.cov(features.double().T)) for features in (features_N_D, other_N_D))
    # tr (C C')^(1/2) = tr (C^(1/2) C' C^(1/2))^(1/2), and that product is symmetric.
    values, vectors = torch.linalg.eigh(c1)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ c2 @ root).clamp(min=0).sqrt().sum()
    return float((means[0] - means[1]).square().sum() + c1.trace() + c2.trace() - 2 * cross)


def load_i3d(path: str | os.PathLike[str], *, device: torch.device | str = "cpu") -> Callable[[Tensor], Tensor]:
    """Load the feature network of rFVD.

    Args:
        path: TorchScript of I3D, `i3d_torchscript.pt` as StyleGAN-V publishes it: called with a video in [-1, 1], and
            `rescale=False, resize=True, return_features=True`.
        device: where to put it.

    Raises:
        UserError: no such file, or not TorchScript.
    """
    file = Path(path).expanduser()
    try:
        network = torch.jit.load(str(file), map_location=device).eval()
    except Exception as error:  # torch raises runtime, unpickling, zip and OS errors
        raise UserError(
            f"{file} cannot be read as the TorchScript file of I3D: {str(error).splitlines()[0]}"
        ) from error

    def features(video_B_3_T_H_W: Tensor) -> Tensor:
        result: Tensor = network(video_B_3_T_H_W.to(device), rescale=False, resize=True, return_features=True)
        return result

    return features

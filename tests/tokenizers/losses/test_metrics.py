import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.ndimage import uniform_filter

from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.losses import metrics
from tests.tokenizers.losses.test_terms import video


def test_psnr_of_a_known_error():
    x = torch.zeros(1, 3, 2, 8, 8)
    y = x.clone()
    y[:, :, 1] += 2 * 16 / 255  # 16 of 255 steps, in one frame
    value = metrics.psnr(x, y)
    assert value[1].item() == pytest.approx(10 * math.log10(255**2 / 16**2), abs=1e-4)
    assert value[0].item() == pytest.approx(10 * math.log10(255**2 / metrics.FLOAT32_EPSILON), abs=1e-2)


def test_uniform_ssim_is_that_of_scikit_image():
    """Written down again from its definition: uniform filter, sample covariance, borders of half a window left out."""
    x, y = video(0, 1, 3, 2, 24, 32), video(1, 1, 3, 2, 24, 32)
    y = 0.5 * x + 0.5 * y
    expected = []
    for frame, other in zip(metrics.to_uint8(x).double().numpy(), metrics.to_uint8(y).double().numpy(), strict=True):
        values = []
        for a, b in zip(frame, other, strict=True):
            ux, uy = uniform_filter(a, 7), uniform_filter(b, 7)
            vx = 49 / 48 * (uniform_filter(a * a, 7) - ux * ux)
            vy = 49 / 48 * (uniform_filter(b * b, 7) - uy * uy)
            vxy = 49 / 48 * (uniform_filter(a * b, 7) - ux * uy)
            c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
            s = ((2 * ux * uy + c1) * (2 * vxy + c2)) / ((ux**2 + uy**2 + c1) * (vx + vy + c2))
            values.append(s[3:-3, 3:-3].mean())
        expected.append(np.mean(values))
    np.testing.assert_allclose(metrics.uniform_ssim(x, y).numpy(), expected, rtol=1e-9)


def test_ssim_is_that_of_torchmetrics():
    from torchmetrics.image import StructuralSimilarityIndexMeasure

    x, y = video(0, 2, 3, 3, 24, 32), video(1, 2, 3, 3, 24, 32)
    measure = StructuralSimilarityIndexMeasure(data_range=1.0)
    frames = [v.transpose(1, 2).flatten(0, 1) * 0.5 + 0.5 for v in (x, y)]
    value = metrics.ssim(x, y)
    assert value.shape == (6,)
    assert value.mean().item() == pytest.approx(measure(frames[1], frames[0]).item(), abs=1e-6)
    torch.testing.assert_close(metrics.ssim(x, x), torch.ones(6))


def test_frames_too_small_for_ssim_are_named():
    with pytest.raises(UserError, match="at least 11x11"):
        metrics.ssim(video(0, 1, 3, 1, 8, 16), video(1, 1, 3, 1, 8, 16))


def test_codebook_use_of_known_distributions():
    even = metrics.codebook_use(metrics.count_tokens(torch.arange(8).repeat(4), 16))
    assert (even.entropy, even.dead, even.num_tokens) == (pytest.approx(3.0), 8, 32)
    assert even.perplexity == pytest.approx(8.0, rel=1e-4)
    one = metrics.codebook_use(metrics.count_tokens(torch.zeros(2, 3, 4, 4, dtype=torch.int32), 16))
    assert (one.entropy, one.dead) == (pytest.approx(0.0), 15)


def test_frechet_distance_of_gaussians():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(400, 5, generator=generator), 2 * torch.randn(300, 5, generator=generator) + 1
    c1, c2 = np.cov(a.double().numpy().T), np.cov(b.double().numpy().T)
    shift = (a.double().mean(0) - b.double().mean(0)).square().sum().item()
    expected = shift + np.trace(c1 + c2 - 2 * sqrtm(c1 @ c2).real)
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_rfvd_runs_on_a_given_network(tmp_path):
    class Features(torch.nn.Module):
        def forward(self, video: torch.Tensor, rescale: bool, resize: bool, return_features: bool) -> torch.Tensor:
            assert not rescale and resize and return_features
            return video.mean(dim=(2, 3, 4))

    torch.jit.script(Features()).save(str(tmp_path / "i3d.pt"))
    distance = metrics.FrechetVideoDistance(metrics.load_i3d(tmp_path / "i3d.pt"))
    with pytest.raises(UserError, match="two clips"):
        distance.compute()
    for seed in range(4):
        distance.update(video(seed, 2, 3, 4, 8, 8), video(seed, 2, 3, 4, 8, 8).clamp(-0.5, 0.5) + 0.3)
    assert distance.compute() > 0.2
    with pytest.raises(UserError, match="I3D"):
        metrics.load_i3d(tmp_path / "absent.pt")

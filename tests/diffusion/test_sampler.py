"""The 2ab sampler against closed forms and its own order of accuracy."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cosmos_nemo.diffusion import sampler
from cosmos_nemo.errors import UserError


@pytest.mark.parametrize("num_steps", [10, 35])
def test_every_state_of_the_analytic_run_matches(shared_dir, num_steps):
    path = shared_dir / "golden" / "dit" / f"sampler_predict2_ab2_analytic_{num_steps}.io.safetensors"
    golden = load_file(path)
    mu, s2 = golden["in.mu"], 0.25
    sigmas = sampler.sigma_schedule(num_steps)
    states = {}
    out = sampler.sample_2ab(
        lambda x, sigma: mu + (x - mu) * s2 / (s2 + sigma.float() ** 2),
        golden["in.x_sigma_max"],
        sigmas,
        on_step=lambda i, x, x0: states.update({f"x_after_step_{i:02}": x, f"x0_at_step_{i:02}": x0}),
    )
    torch.testing.assert_close(sigmas, golden["sigmas"], rtol=1e-12, atol=0)
    assert len(states) == 2 * num_steps
    for name, state in states.items():
        torch.testing.assert_close(state.float(), golden[name], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(out, golden["out"], rtol=1e-5, atol=1e-5)


def gaussian_error(num_steps: int) -> float:
    """Error against the exact flow x(sigma) = x_max sqrt((1 + sigma^2) / (1 + sigma_max^2)) of unit-variance data."""
    sigmas = sampler.sigma_schedule(num_steps)
    final = []
    sampler.sample_2ab(
        lambda x, sigma: x / (1 + sigma.float() ** 2),
        torch.full((1,), 80.0),
        sigmas,
        on_step=lambda i, x, x0: final.append(x),
    )
    exact = 80 * ((1 + 0.002**2) / (1 + 80**2)) ** 0.5
    return abs(final[-1].item() - exact)


def test_halving_the_steps_quarters_the_error():
    assert gaussian_error(40) / gaussian_error(80) == pytest.approx(4.0, rel=0.35)


def test_constant_denoiser_is_reached_exactly_and_called_once_more_than_there_are_steps():
    target, calls = torch.randn(2, 3), []

    def denoiser(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        calls.append((x.dtype, sigma.dtype))
        return target

    out = sampler.sample_2ab(denoiser, torch.randn(2, 3) * 80, sampler.sigma_schedule(5))
    assert torch.equal(out, target)
    assert calls == [(torch.float32, torch.float64)] * 6


def test_schedule_has_the_published_ends_and_falls():
    sigmas = sampler.sigma_schedule(35)
    assert sigmas.shape == (36,) and sigmas.dtype == torch.float64
    assert sigmas[0].item() == pytest.approx(80.0) and sigmas[-1].item() == pytest.approx(0.002)
    assert (sigmas.diff() < 0).all()


@pytest.mark.parametrize("wrong", [{"num_steps": 0}, {"num_steps": 5, "sigma_min": 0.0}])
def test_impossible_schedules_are_rejected(wrong):
    with pytest.raises(UserError):
        sampler.sigma_schedule(**wrong)


def test_initial_noise_is_numpys_of_that_seed():
    noise = sampler.initial_noise((1, 2, 3), seed=5, sigma_max=2.0)
    expected = 2.0 * np.random.RandomState(5).standard_normal((1, 2, 3)).astype(np.float32)
    assert np.array_equal(noise.numpy(), expected)


def test_zero_guidance_is_the_conditional_prediction():
    cond, uncond = torch.randn(3), torch.randn(3)
    assert torch.equal(sampler.guided(cond, uncond, 0.0), cond)
    torch.testing.assert_close(sampler.guided(cond, uncond, 7.0), uncond + 8 * (cond - uncond))

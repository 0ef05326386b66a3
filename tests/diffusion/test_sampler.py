"""The integrators against closed forms, recorded runs and their own orders of accuracy."""

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
    out = sampler.integrate_2ab(
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


def test_every_state_of_the_analytic_euler_run_matches(shared_dir):
    """Predict1's run, which ends at sigma 0."""
    golden = load_file(shared_dir / "golden" / "dit" / "sampler_predict1_analytic_12.io.safetensors")
    mu, s2 = golden["in.mu"], 0.3
    states = {}
    out = sampler.integrate_euler(
        lambda x, sigma: mu + (x - mu) * s2 / (s2 + sigma.float() ** 2),
        golden["in.x_sigma_max"],
        golden["edm_euler.sigmas"].double(),
        on_step=lambda i, x, x0: states.update({f"edm_euler.x_after_step_{i:02}": x}),
    )
    assert len(states) == 12
    for name, state in states.items():
        torch.testing.assert_close(state.float(), golden[name], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(out, golden["edm_euler.x_after_step_11"], rtol=1e-5, atol=1e-5)


def gaussian_error(integrate: sampler.Integrator, num_steps: int) -> float:
    """Error against the exact flow x(sigma) = x_max sqrt((1 + sigma^2) / (1 + sigma_max^2)) of unit-variance data."""
    sigmas = sampler.sigma_schedule(num_steps)
    final = []
    integrate(
        lambda x, sigma: x / (1 + sigma.float() ** 2),
        torch.full((1,), 80.0),
        sigmas,
        on_step=lambda i, x, x0: final.append(x),
    )
    exact = 80 * ((1 + 0.002**2) / (1 + 80**2)) ** 0.5
    return abs(final[-1].item() - exact)


@pytest.mark.parametrize(("name", "order"), [("2ab", 2), ("euler", 1)])
def test_halving_the_steps_divides_the_error_by_two_to_the_order(name, order):
    integrate = sampler.INTEGRATORS[name]
    assert gaussian_error(integrate, 40) / gaussian_error(integrate, 80) == pytest.approx(2.0**order, rel=0.35)


@pytest.mark.parametrize("integrate", sampler.INTEGRATORS.values())
def test_constant_denoiser_is_reached_exactly_and_called_once_more_than_there_are_steps(integrate):
    target, calls = torch.randn(2, 3), []

    def denoiser(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        calls.append((x.dtype, sigma.dtype))
        return target

    out = integrate(denoiser, torch.randn(2, 3) * 80, sampler.sigma_schedule(5))
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


def test_unit_noise_is_numpys_of_that_seed():
    expected = np.random.RandomState(5).standard_normal((1, 2, 3)).astype(np.float32)
    assert np.array_equal(sampler.unit_noise((1, 2, 3), seed=5).numpy(), expected)

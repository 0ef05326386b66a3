"""Noise schedules and the integrators that lead from noise to clean latents, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from cosmos_nemo.diffusion.denoising import OnStep
from cosmos_nemo.errors import UserError

X0Fn = Callable[[Tensor, Tensor], Tensor]
"""Denoiser: (state float32, sigma float64 scalar) -> predicted clean latents of the state's shape."""
Integrator = Callable[[X0Fn, Tensor, Tensor, OnStep | None], Tensor]
"""(denoiser, first state, noise levels [N + 1] in float64, observer) -> clean latents, float32."""


def sigma_schedule(num_steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    """Return the noise levels of a sampling run, from high to low.

    sigma_i = (max^(1/rho) + i/N (min^(1/rho) - max^(1/rho)))^rho, i = 0..N.

    Args:
        num_steps: N, the number of integration steps.
        sigma_min: last noise level; > 0.
        sigma_max: first noise level.
        rho: spacing exponent.

    Returns:
        sigmas, shape [N + 1], float64.

    Raises:
        UserError: num_steps < 1, or the noise levels are not 0 < sigma_min < sigma_max.

    Source: Karras et al. 2022, arXiv:2206.00364, eq. 5.
    """
    if num_steps < 1:
        raise UserError(f"num_steps={num_steps}; a sampling run needs at least 1 step.")
    if not 0.0 < sigma_min < sigma_max:
        raise UserError(f"sigma_min={sigma_min} and sigma_max={sigma_max}; use 0 < sigma_min < sigma_max.")
    start, end = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    i = torch.arange(num_steps + 1, dtype=torch.float64)
    return torch.pow(start + i / num_steps * (end - start), rho)


def unit_noise(shape: tuple[int, ...], *, seed: int) -> Tensor:
    """Return unit Gaussian noise, equal on every machine.

    It comes from numpy's RandomState as upstream, so that a seed gives the published picture.

    Args:
        shape: (B, C, T, H, W).
        seed: seed of the picture, 0 <= seed < 2^32.

    Returns:
        The noise, float32, on the CPU.
    """
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


@torch.no_grad()
def integrate_2ab(x0_fn: X0Fn, x_sigma_max: Tensor, sigmas: Tensor, on_step: OnStep | None = None) -> Tensor:
    """Integrate with the two-step exponential Adams-Bashforth method.

    With d_i = x0_fn(x, sigma_i), h = ln(sigma_i / sigma_{i+1}) and, after the first step,
    g = ln(sigma_{i-1} / sigma_i):

        x <- e^-h x + (1 - e^-h) d_i + (h + e^-h - 1) (d_i - d_{i-1}) / g,

    where the first step leaves the last term out. One clean pass at the last sigma gives the result, so a run of
    N steps calls `x0_fn` N + 1 times.

    Args:
        x0_fn: the denoiser; receives the state in float32 and sigma as a float64 scalar.
        x_sigma_max: first state: noise of the first sigma, any shape.
        sigmas: decreasing noise levels above 0, shape [N + 1], float64.
        on_step: called after every step, e.g. for progress.

    Returns:
        Predicted clean latents, the shape of x_sigma_max, float32.

    Source: nvidia-cosmos/cosmos-predict2, schedulers/rectified_flow_scheduler.py (RectifiedFlowAB2Scheduler) and
    module/res_sampler.py ("2ab").
    """
    levels = sigmas.tolist()
    sigmas = sigmas.to(x_sigma_max.device)
    x = x_sigma_max.double()  # the state is kept in float64: 35 steps of small differences
    previous = None
    for i in range(len(levels) - 1):
        x0 = x0_fn(x.float(), sigmas[i]).double()
        h = math.log(levels[i] / levels[i + 1])
        decay = levels[i + 1] / levels[i]
        x = decay * x + (1 - decay) * x0
        if previous is not None:
            x = x + (h + decay - 1) / math.log(levels[i - 1] / levels[i]) * (x0 - previous)
        previous = x0
        if on_step is not None:
            on_step(i, x, x0)
    return x0_fn(x.float(), sigmas[-1]).float()


@torch.no_grad()
def integrate_euler(x0_fn: X0Fn, x_sigma_max: Tensor, sigmas: Tensor, on_step: OnStep | None = None) -> Tensor:
    """Integrate with Euler's method: x <- x + (sigma_{i+1} - sigma_i) (x - x0_fn(x, sigma_i)) / sigma_i.

    A last sigma of 0 ends the run there; above 0, one clean pass at it gives the result.

    Args:
        x0_fn: the denoiser; receives the state in float32 and sigma as a float64 scalar.
        x_sigma_max: first state: noise of the first sigma, any shape.
        sigmas: decreasing noise levels, shape [N + 1], float64; only the last may be 0.
        on_step: called after every step, e.g. for progress.

    Returns:
        Predicted clean latents, the shape of x_sigma_max, float32.

    Source: Karras et al. 2022, arXiv:2206.00364, algorithm 1.
    """
    levels = sigmas.tolist()
    sigmas = sigmas.to(x_sigma_max.device)
    x = x_sigma_max.double()
    for i in range(len(levels) - 1):
        x0 = x0_fn(x.float(), sigmas[i]).double()
        x = x + (levels[i + 1] - levels[i]) / levels[i] * (x - x0)
        if on_step is not None:
            on_step(i, x, x0)
    return x.float() if levels[-1] == 0 else x0_fn(x.float(), sigmas[-1]).float()


INTEGRATORS: Mapping[str, Integrator] = {"2ab": integrate_2ab, "euler": integrate_euler}
"""Integrators by the names that users and golden manifests give them."""

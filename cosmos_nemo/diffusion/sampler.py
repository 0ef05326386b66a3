"""Predict2's sampler: a two-step exponential Adams-Bashforth integrator over a Karras noise schedule.

Source: nvidia-cosmos/cosmos-predict2, schedulers/rectified_flow_scheduler.py (RectifiedFlowAB2Scheduler) and
module/res_sampler.py ("2ab"); Karras et al. 2022, arXiv:2206.00364, eq. 5.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cosmos_nemo.errors import UserError

X0Fn = Callable[[Tensor, Tensor], Tensor]
"""Denoiser: (state float32, sigma float64 scalar) -> predicted clean latents of the state's shape."""
OnStep = Callable[[int, Tensor, Tensor], None]
"""Observer: (step, state after the step in float64, the step's x0 prediction)."""


def sigma_schedule(num_steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    """Return the noise levels of a sampling run, from high to low.

    sigma_i = (max^(1/rho) + i/N (min^(1/rho) - max^(1/rho)))^rho, i = 0..N.

    Args:
        num_steps: N, the number of integration steps.
        sigma_min: last noise level; > 0.
        sigma_max: first noise level.
        rho: spacing exponent.

    Returns: sigmas, shape [N + 1], float64.

    Raises:
        UserError: num_steps < 1, or the noise levels are not 0 < sigma_min < sigma_max.
    """
    if num_steps < 1:
        raise UserError(f"num_steps={num_steps}; a sampling run needs at least 1 step.")
    if not 0.0 < sigma_min < sigma_max:
        raise UserError(f"sigma_min={sigma_min} and sigma_max={sigma_max}; use 0 < sigma_min < sigma_max.")
    start, end = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    i = torch.arange(num_steps + 1, dtype=torch.float64)
    return torch.pow(start + i / num_steps * (end - start), rho)


def initial_noise(shape: tuple[int, ...], *, seed: int, sigma_max: float = 80.0) -> Tensor:
    """Return sigma_max times unit Gaussian noise, equal on every machine.

    The noise comes from numpy's RandomState as upstream, so that a seed gives the published picture.

    Args:
        shape: (B, C, T, H, W).
        seed: seed of the picture, 0 <= seed < 2^32.
        sigma_max: first noise level.

    Returns: the first sampler state, float32, on the CPU.
    """
    noise = np.random.RandomState(seed).standard_normal(shape).astype(np.float32)
    return torch.from_numpy(noise) * sigma_max


def guided(x0_cond: Tensor, x0_uncond: Tensor, guidance: float) -> Tensor:
    """Return cond + g (cond - uncond): g = 0 is no guidance, and g = 7 is scale 8 of the usual form.

    Args:
        x0_cond: x0 prediction under the prompt.
        x0_uncond: x0 prediction under the negative prompt, same shape.
        guidance: g.

    Returns: the guided prediction, same shape.
    """
    return x0_cond + guidance * (x0_cond - x0_uncond)


@torch.no_grad()
def sample_2ab(x0_fn: X0Fn, x_sigma_max: Tensor, sigmas: Tensor, on_step: OnStep | None = None) -> Tensor:
    """Integrate from pure noise to clean latents.

    With d_i = x0_fn(x, sigma_i), h = ln(sigma_i / sigma_{i+1}) and, after the first step,
    g = ln(sigma_{i-1} / sigma_i):

        x <- e^-h x + (1 - e^-h) d_i + (h + e^-h - 1) (d_i - d_{i-1}) / g,

    where the first step leaves the last term out. One clean pass at the last sigma gives the result, so a run of
    N steps calls `x0_fn` N + 1 times.

    Args:
        x0_fn: the denoiser; receives the state in float32 and sigma as a float64 scalar.
        x_sigma_max: first state, e.g. from `initial_noise`, any shape.
        sigmas: decreasing noise levels, shape [N + 1], float64.
        on_step: called after every step, e.g. for progress.

    Returns: predicted clean latents, the shape of x_sigma_max, float32.
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

"""Runs an objective's sampler with a network: noise to latents as a video tokenizer decodes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from cosmos_nemo.diffusion.denoising import GivenFrames, Objective
from cosmos_nemo.models.dit.conditions import Conditions


def sample_latents(
    model: nn.Module,
    objective: Objective[Any],
    conditions: Conditions,
    *,
    noise_1_C_T_H_W: Tensor,
    uncond_1_L_E: Tensor | None,
    guidance: float,
    num_steps: int,
    sampler: str | None = None,
    given_1_C_T_H_W: Tensor | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Sample latents with classifier-free guidance.

    Without `uncond_1_L_E`, or with guidance 0, the second network pass is left out.

    Args:
        model: the network, on the device to sample on.
        objective: what the network was trained with.
        conditions: the prompt's embedding, zero padded to the length of training, and what else the network is given;
            both branches of guidance are given the same conditional frames.
        noise_1_C_T_H_W: unit Gaussian noise, as `unit_noise` makes it; the same on every rank.
        uncond_1_L_E: embedding that guidance leads away from.
        guidance: g in cond + g (cond - uncond).
        num_steps: sampler steps.
        sampler: one of the objective's; None is the published one.
        given_1_C_T_H_W: clean latents of the conditional frames that `conditions` masks; None without.
        on_step: called with the number of finished steps.

    Returns:
        Latents of standard deviation 1 and of the noise's shape, float32.
    """
    device = next(model.parameters()).device
    conditions = conditions.to(device)
    uncond = None
    if uncond_1_L_E is not None:
        uncond = replace(conditions, crossattn_emb_B_L_E=uncond_1_L_E.to(device)).bind(model)
    given = None
    if given_1_C_T_H_W is not None:
        assert conditions.condition_mask_B_1_T_H_W is not None
        given = GivenFrames(
            x0_B_C_T_H_W=given_1_C_T_H_W.to(device) * objective.sigma_data,
            mask_B_1_T_H_W=conditions.condition_mask_B_1_T_H_W,
        )
    x0 = objective.sample(
        conditions.bind(model),
        noise_1_C_T_H_W.to(device),
        num_steps=num_steps,
        sampler=sampler,
        uncond=uncond,
        guidance=guidance,
        given=given,
        on_step=None if on_step is None else lambda step, x, x0: on_step(step + 1),
    )
    return x0 / objective.sigma_data

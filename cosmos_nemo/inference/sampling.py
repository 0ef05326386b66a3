"""Runs Predict2's sampler with a network: noise to clean latents."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cosmos_nemo.diffusion.predict2 import Predict2Objective, denoise
from cosmos_nemo.diffusion.sampler import guided, sample_2ab, sigma_schedule


def sample_latents(
    model: nn.Module,
    *,
    noise_1_C_T_H_W: Tensor,
    text_1_L_E: Tensor,
    uncond_1_L_E: Tensor | None,
    guidance: float,
    num_steps: int,
    gt_frames_1_C_T_H_W: Tensor | None = None,
    condition_mask_1_1_T_H_W: Tensor | None = None,
    sigma_conditional: float = 1e-4,
    fps: float | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Sample latents with classifier-free guidance.

    x0 = cond + g (cond - uncond). Without `uncond_1_L_E`, or with g = 0, the second network pass is left out.

    Args:
        model: the network, on the device to sample on.
        noise_1_C_T_H_W: first state of the sampler, as `initial_noise` makes it; the same on every rank.
        text_1_L_E: embedding of the prompt, zero padded to the length of training.
        uncond_1_L_E: embedding that guidance leads away from.
        guidance: g.
        num_steps: sampler steps; the network is called for one more noise level.
        gt_frames_1_C_T_H_W: clean latents of the conditional frames.
        condition_mask_1_1_T_H_W: 1 on conditional frames; both branches are conditioned on them.
        sigma_conditional: noise level that the timestep of conditional frames stands for.
        fps: frames per second, for networks with fps modulation.
        on_step: called with the number of finished network evaluations.

    Returns:
        latents of the noise's shape, float32; equal to `gt_frames` on conditional frames.
    Source: cosmos-predict2, `cosmos_predict2/pipelines/video2world.py`, `schedulers/rectified_flow_scheduler.py`.
    """
    device = next(model.parameters()).device
    objective = Predict2Objective(state_t=noise_1_C_T_H_W.shape[2], sigma_conditional=sigma_conditional)
    gt_frames, mask = _to(device, gt_frames_1_C_T_H_W), _to(device, condition_mask_1_1_T_H_W)
    fps_1 = None if fps is None else torch.full((1,), float(fps), device=device)
    padding_mask = torch.zeros(1, 1, *noise_1_C_T_H_W.shape[-2:], device=device)
    text, uncond = text_1_L_E.to(device), _to(device, uncond_1_L_E)
    done = 0

    def predict(x: Tensor, sigma: Tensor, embedding: Tensor) -> Tensor:
        """x0 prediction under one text."""
        return denoise(
            objective,
            lambda x_in, timesteps: model(x_in, timesteps, embedding, mask, padding_mask, fps_1),
            x,
            sigma,
            gt_frames,
            mask,
        )

    def x0_fn(x: Tensor, sigma: Tensor) -> Tensor:
        """Guided x0 prediction."""
        nonlocal done
        x0 = predict(x, sigma, text)
        if uncond is not None and guidance != 0:
            x0 = guided(x0, predict(x, sigma, uncond), guidance)
        done += 1
        if on_step is not None:
            on_step(done)
        return x0

    return sample_2ab(x0_fn, noise_1_C_T_H_W.to(device), sigma_schedule(num_steps))


def _to(device: torch.device, tensor: Tensor | None) -> Tensor | None:
    """Move a tensor that may be absent."""
    return None if tensor is None else tensor.to(device)

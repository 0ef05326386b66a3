"""The Cosmos-Predict2 objective: noise level, preconditioning, frame conditioning, loss and sampling.

Notation: that of `denoising`, and `t = sigma / (1 + sigma)`.
Source: nvidia-cosmos/cosmos-predict2, models/video2world_model.py, module/denoiser_scaling.py,
pipelines/video2world.py.

Precision: coefficients are computed in the dtype of `sigma` and then cast to the dtype of the latents. The noise
levels that `draw` makes are float64, because in float32 `c_in = 1 - t` is wrong by up to 0.1 % at sigma 3e4 and
0.3 % at 1e5. A float32 `sigma` reproduces the published code's rounding exactly, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from cosmos_nemo.diffusion.denoising import (
    Draws,
    GivenFrames,
    LossOutput,
    NetworkFn,
    Objective,
    OnStep,
    add_noise,
    condition_mask,
    guided,
    per_sample,
)
from cosmos_nemo.diffusion.sampler import INTEGRATORS, X0Fn, sigma_schedule
from cosmos_nemo.errors import UserError
from cosmos_nemo.numerics.keyed import generator

TEXT2IMAGE: Mapping[str, Any] = {
    "state_t": 1,
    "video_noise": False,
    "high_sigma_ratio": 0.0,
    "min_num_conditional_frames": 0,
    "max_num_conditional_frames": 0,
}
"""Fields of the Text2Image objective that differ from Video2World's: plain log-normal sigma, no conditional frames."""


class Scalings(NamedTuple):
    """Preconditioning coefficients, each of sigma's shape and dtype: x0 = c_skip xt + c_out net(c_in xt, c_noise)."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


@dataclass(frozen=True, kw_only=True)
class Predict2Objective(Objective[Draws]):
    """Predict2's objective; the default values are Video2World's, and `TEXT2IMAGE` has those of Text2Image.

    Source of the values: cosmos-predict2, configs/base.
    """

    kind: ClassVar[str] = "predict2"
    samplers: ClassVar[tuple[str, ...]] = ("2ab", "euler")

    state_t: int
    """Latent frames of a training clip; 24 for 93 frames at 16 fps, 16 for 61 at 10 fps, 1 for images."""
    video_noise: bool = True
    """Multiply sigma by sqrt(state_t)."""
    high_sigma_ratio: float = 0.05
    """Probability that a sample's sigma is replaced by a log-uniform one."""
    high_sigma_min: float = 200.0
    """Lower end of the log-uniform distribution."""
    high_sigma_max: float = 100000.0
    """Upper end of the log-uniform distribution."""
    min_num_conditional_frames: int = 1
    """Fewest clean latent frames at the start of a clip."""
    max_num_conditional_frames: int = 2
    """Most clean latent frames at the start of a clip."""
    sigma_conditional: float = 1e-4
    """Noise level that the timestep of conditional frames stands for; their latents are given without noise."""
    sigma_data: float = 1.0
    """Standard deviation of the latents; the rectified-flow scalings hold for 1 only."""
    loss_scale: float = 10.0
    """Factor of the loss."""
    text_dropout: float = 0.2
    """Probability that a sample's whole text embedding is set to zero."""

    def __post_init__(self) -> None:
        """Reject contradictions.

        Raises:
            UserError: a value is out of range.
        """
        if self.state_t < 1:
            raise UserError(f"state_t={self.state_t} latent frames; use 1 for images, 16 or 24 for video.")
        if self.sigma_data != 1.0:
            raise UserError(f"sigma_data={self.sigma_data}; Predict2's scalings need sigma_data=1.0.")
        if not 0 <= self.min_num_conditional_frames <= self.max_num_conditional_frames:
            raise UserError(
                f"min_num_conditional_frames={self.min_num_conditional_frames} and max_num_conditional_frames="
                f"{self.max_num_conditional_frames}; use 0 <= min <= max."
            )
        for name in ("high_sigma_ratio", "text_dropout"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"{name}={getattr(self, name)} is a probability; use a value in [0, 1].")
        if not 0.0 < self.high_sigma_min <= self.high_sigma_max:
            raise UserError(
                f"high_sigma_min={self.high_sigma_min} and high_sigma_max={self.high_sigma_max}; use 0 < min <= max."
            )

    @classmethod
    def published(cls, task: str) -> Predict2Objective:
        """See `Objective`; Video2World's at 16 fps."""
        return cls(**TEXT2IMAGE) if task == "text2image" else cls(state_t=24)

    @property
    def given_frame_counts(self) -> range:
        """See `Objective`."""
        return range(max(1, self.min_num_conditional_frames), self.max_num_conditional_frames + 1)

    def notes(self, latent_frames: int) -> list[str]:
        """See `Objective`: whether the noise level suits the clips' length."""
        if self.state_t == latent_frames:
            return []
        return [
            f"model.objective.state_t={self.state_t} sets the noise level for clips of {self.state_t} latent frames; "
            f"these have {latent_frames}"
        ]

    def draw(
        self, *, seed: int, step: int, sample_id_B: Sequence[int], latent_shape: tuple[int, int, int, int]
    ) -> Draws:
        """See `Objective`."""
        C, T, H, W = latent_shape
        sigma, epsilon, num_conditional, keep_text = [], [], [], []
        for sample_id in sample_id_B:
            key = (seed, step, int(sample_id))
            u_gauss, u_mask, u_log = torch.rand(3, generator=generator(*key, "sigma"), dtype=torch.float64).unbind()
            u_gauss = u_gauss.clamp(min=2.0**-53)  # torch.rand may return 0, whose normal quantile is -inf
            sigma.append(self.sigma_from_uniforms(u_gauss[None], u_mask[None], u_log[None]))
            epsilon.append(torch.randn(C, T, H, W, generator=generator(*key, "epsilon")))
            low, high = self.min_num_conditional_frames, self.max_num_conditional_frames
            count = torch.randint(low, high + 1, (), generator=generator(*key, "num_conditional_frames"))
            num_conditional.append(count if T > 1 else torch.zeros_like(count))  # an image has nothing to continue
            u_text = torch.rand((), generator=generator(*key, "text_dropout"), dtype=torch.float64)
            keep_text.append(u_text >= self.text_dropout)
        return Draws(
            sigma_B_1=torch.stack(sigma),
            epsilon_B_C_T_H_W=torch.stack(epsilon),
            condition_mask_B_1_T_H_W=condition_mask(torch.stack(num_conditional), (T, H, W)),
            keep_text_B=torch.stack(keep_text),
        )

    def sigma_from_uniforms(self, u_gauss_B: Tensor, u_mask_B: Tensor, u_log_B: Tensor) -> Tensor:
        """Turn three uniforms per sample into a training noise level.

        sigma = exp(ndtri(u_gauss)), times sqrt(state_t) with `video_noise`; where u_mask < high_sigma_ratio it is
        replaced by exp(ln min + u_log (ln max - ln min)), which is not multiplied.

        Args:
            u_gauss_B: uniforms in (0, 1), shape [B], float64.
            u_mask_B: uniforms in [0, 1), shape [B], float64.
            u_log_B: uniforms in [0, 1), shape [B], float64.

        Returns:
            sigma_B, shape [B], the dtype of `u_gauss_B`; > 0.
        """
        sigma_B = torch.special.ndtri(u_gauss_B).exp()
        if self.video_noise:
            sigma_B = sigma_B * math.sqrt(self.state_t)
        log_min, log_max = math.log(self.high_sigma_min), math.log(self.high_sigma_max)
        high_B = torch.exp(log_min + u_log_B * (log_max - log_min))
        return torch.where(u_mask_B < self.high_sigma_ratio, high_B, sigma_B)

    def network_input(self, x0_B_C_T_H_W: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """See `Objective`; a timestep per frame.

        Ordinary frames: c_in (x0 + sigma eps) at timestep t. Conditional frames: x0 / sigma_data, clean and unscaled,
        at the timestep of `sigma_conditional`.
        """
        return self._scaled(add_noise(x0_B_C_T_H_W, draws), draws.sigma_B_1, _given(x0_B_C_T_H_W, draws))

    def loss(
        self, x0_B_C_T_H_W: Tensor, net_out_B_C_T_H_W: Tensor, draws: Draws, network: nn.Module | None = None
    ) -> LossOutput:
        """See `Objective`.

        loss = loss_scale * mean over B, C, T, H, W of w (x0 - x0_pred)^2. Conditional frames add zero but stay in
        the denominator. In exact arithmetic it equals loss_scale * mean of (1 - mask) (net_out - (eps - x0))^2.

        This x0 form is the published one, and it is sound in float32 up to sigma 1e5: c_skip xt stays of the size of
        the data, so the rounding of x0_pred, divided by t, is about 1e-7 (1 + 1/t) in velocity units. The velocity
        form would be as accurate, but would not carry the published rounding of c_in into the target, and so would
        disagree with what the network was shown whenever sigma is given in float32.
        """
        xt = add_noise(x0_B_C_T_H_W, draws)
        x0_pred = x0_prediction(xt, net_out_B_C_T_H_W, draws.sigma_B_1, _given(x0_B_C_T_H_W, draws))
        error = weighted_squared_error(x0_B_C_T_H_W, x0_pred, draws.sigma_B_1)
        loss_per_sample_B = error.mean(dim=(1, 2, 3, 4))
        return LossOutput(self.loss_scale * loss_per_sample_B.mean(), loss_per_sample_B, x0_pred)

    def sample(
        self,
        network: NetworkFn,
        noise_B_C_T_H_W: Tensor,
        *,
        num_steps: int,
        sampler: str | None = None,
        uncond: NetworkFn | None = None,
        guidance: float = 0.0,
        given: GivenFrames | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """See `Objective`; equal to the given latents on given frames.

        Source: cosmos-predict2, pipelines/video2world.py.
        """
        integrate = INTEGRATORS[self.sampler_name(sampler)]
        sigmas = sigma_schedule(num_steps)
        x0_fn = self.denoiser(network, uncond=uncond, guidance=guidance, given=given)
        return integrate(x0_fn, sigmas[0].item() * noise_B_C_T_H_W, sigmas, on_step)

    def denoiser(
        self, network: NetworkFn, *, uncond: NetworkFn | None, guidance: float, given: GivenFrames | None
    ) -> X0Fn:
        """Return what an integrator calls: (state, sigma) -> guided x0 prediction; for the arguments see `sample`."""

        def x0_fn(x_B_C_T_H_W: Tensor, sigma: Tensor) -> Tensor:
            x0 = self.denoise(network, x_B_C_T_H_W, sigma, given)
            if uncond is None or guidance == 0:
                return x0
            return guided(x0, self.denoise(uncond, x_B_C_T_H_W, sigma, given), guidance)

        return x0_fn

    def denoise(
        self, network: NetworkFn, x_B_C_T_H_W: Tensor, sigma: Tensor | float, given: GivenFrames | None = None
    ) -> Tensor:
        """Predict the clean latents of a sampler state with one network pass.

        Args:
            network: (x_B_C_T_H_W, timesteps_B_T) -> net_out_B_C_T_H_W.
            x_B_C_T_H_W: sampler state, shape [B, C, T, H, W], float32.
            sigma: its noise level, one for the whole batch; > 0.
            given: frames that are known.

        Returns:
            Predicted clean latents, shape [B, C, T, H, W], float32; the given ones on given frames.
        """
        sigma_B_1 = torch.as_tensor(sigma, dtype=torch.float64, device=x_B_C_T_H_W.device).expand(len(x_B_C_T_H_W), 1)
        net_out = network(*self._scaled(x_B_C_T_H_W, sigma_B_1, given))
        return x0_prediction(x_B_C_T_H_W, net_out, sigma_B_1, given)

    def _scaled(self, xt: Tensor, sigma_B_1: Tensor, given: GivenFrames | None) -> tuple[Tensor, Tensor]:
        """Scale noisy latents for the network and put given frames and their timestep in place ("frame_replace")."""
        _, _, c_in, c_noise = scalings(sigma_B_1)
        x = per_sample(c_in, xt) * xt
        timesteps_B_T = c_noise.to(xt.dtype).expand(xt.shape[0], xt.shape[2])  # [B, 1] -> [B, T]
        if given is None:
            return x, timesteps_B_T
        conditional_timestep = self.sigma_conditional / (1 + self.sigma_conditional)
        x = torch.where(given.mask_B_1_T_H_W.bool(), given.x0_B_C_T_H_W.to(x.dtype) / self.sigma_data, x)
        return x, timesteps_B_T.masked_fill(given.mask_B_1_T_H_W[:, 0, :, 0, 0].bool(), conditional_timestep)


def scalings(sigma: Tensor) -> Scalings:
    """Return the rectified-flow preconditioning of a noise level.

    t = sigma / (sigma + 1); c_in = c_skip = 1 - t; c_out = -t; c_noise = t. The network output is the velocity
    eps - x0 at time t.

    Args:
        sigma: noise level, any shape; > 0.

    Returns:
        Scalings of sigma's shape and dtype.

    Source: cosmos-predict2, module/denoiser_scaling.py (RectifiedFlowScaling); Liu et al. 2022, arXiv:2209.03003.
    """
    t = sigma / (sigma + 1)
    return Scalings(c_skip=1 - t, c_out=-t, c_in=1 - t, c_noise=t)


def loss_weight(sigma: Tensor) -> Tensor:
    """Return w = (1 + sigma)^2 / sigma^2 = 1 / t^2, which makes the x0 error uniform in velocity space.

    Args:
        sigma: noise level, any shape; > 0.

    Returns:
        The weight, of sigma's shape and dtype.

    Source: cosmos-predict2, models/video2world_model.py.
    """
    return (1 + sigma) ** 2 / sigma**2


def x0_prediction(
    xt_B_C_T_H_W: Tensor, net_out_B_C_T_H_W: Tensor, sigma_B_1: Tensor, given: GivenFrames | None = None
) -> Tensor:
    """Return x0 = c_skip xt + c_out net_out, with given frames put in place.

    Args:
        xt_B_C_T_H_W: noisy latents, shape [B, C, T, H, W].
        net_out_B_C_T_H_W: network output, shape [B, C, T, H, W]; cast to the dtype of xt.
        sigma_B_1: noise level, shape [B, 1].
        given: frames that are known.

    Returns:
        Predicted clean latents, shape [B, C, T, H, W], the dtype of xt.
    """
    c_skip, c_out, _, _ = (per_sample(c, xt_B_C_T_H_W) for c in scalings(sigma_B_1))
    x0_pred = c_skip * xt_B_C_T_H_W + c_out * net_out_B_C_T_H_W.to(xt_B_C_T_H_W.dtype)
    if given is None:
        return x0_pred
    return torch.where(given.mask_B_1_T_H_W.bool(), given.x0_B_C_T_H_W.to(x0_pred.dtype), x0_pred)


def weighted_squared_error(x0_B_C_T_H_W: Tensor, x0_pred_B_C_T_H_W: Tensor, sigma_B_1: Tensor) -> Tensor:
    """Return w(sigma) (x0 - x0_pred)^2 per element, shape [B, C, T, H, W]."""
    return per_sample(loss_weight(sigma_B_1), x0_B_C_T_H_W) * (x0_B_C_T_H_W - x0_pred_B_C_T_H_W) ** 2


def _given(x0_B_C_T_H_W: Tensor, draws: Draws) -> GivenFrames:
    """Return the frames that a training batch gives."""
    return GivenFrames(x0_B_C_T_H_W=x0_B_C_T_H_W, mask_B_1_T_H_W=draws.condition_mask_B_1_T_H_W)

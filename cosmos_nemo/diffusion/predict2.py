"""The Cosmos-Predict2 objective: noise level, preconditioning, frame conditioning and loss.

Notation: `x0` clean latent, `eps` unit Gaussian noise, `sigma` noise level, `t = sigma / (1 + sigma)`.
Source: nvidia-cosmos/cosmos-predict2, models/video2world_model.py, module/denoiser_scaling.py,
pipelines/video2world.py.

Precision: coefficients are computed in the dtype of `sigma` and then cast to the dtype of the latents. The noise
levels that `draw` makes are float64, because in float32 `c_in = 1 - t` is wrong by up to 0.1 % at sigma 3e4 and
0.3 % at 1e5. A float32 `sigma` reproduces the published code's rounding exactly, bit for bit.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from cosmos_nemo.errors import UserError
from cosmos_nemo.numerics.keyed import generator

NetworkFn = Callable[[Tensor, Tensor], Tensor]
"""A network with text, masks and fps bound: (x_B_C_T_H_W, timesteps_B_T) -> net_out_B_C_T_H_W."""


@dataclass(frozen=True, kw_only=True)
class Predict2Objective:
    """Numbers of the Predict2 training objective; the defaults are Video2World's.

    Text2Image is `Predict2Objective.text2image()`. Source of the values: cosmos-predict2, configs/base.
    """

    state_t: int
    """Latent frames of a training clip; 24 for 93 frames at 16 fps, 16 for 61 at 10 fps, 1 for images."""
    video_noise: bool = True
    """Multiply sigma by sqrt(state_t)."""
    high_sigma_ratio: float = 0.05
    """Probability that a sample's sigma is replaced by a log-uniform one."""
    high_sigma_min: float = 200.0
    high_sigma_max: float = 100000.0
    min_num_conditional_frames: int = 1
    """Fewest clean latent frames at the start of a clip."""
    max_num_conditional_frames: int = 2
    sigma_conditional: float = 1e-4
    """Noise level that the timestep of conditional frames stands for; their latents are given without noise."""
    sigma_data: float = 1.0
    """Standard deviation of the latents; the rectified-flow scalings hold for 1 only."""
    loss_scale: float = 10.0
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
    def text2image(cls) -> "Predict2Objective":
        """Return the Text2Image objective: plain log-normal sigma, no conditional frames."""
        return cls(
            state_t=1,
            video_noise=False,
            high_sigma_ratio=0.0,
            min_num_conditional_frames=0,
            max_num_conditional_frames=0,
        )


class Scalings(NamedTuple):
    """Preconditioning coefficients, each of sigma's shape and dtype: x0 = c_skip xt + c_out net(c_in xt, c_noise)."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


@dataclass(frozen=True, kw_only=True)
class Draws:
    """All random numbers of one training batch."""

    sigma_B_1: Tensor
    """Noise level per sample, float64 when made by `draw`; > 0."""
    epsilon_B_C_T_H_W: Tensor
    """Unit Gaussian noise, float32."""
    condition_mask_B_1_T_H_W: Tensor
    """1 on conditional (clean) latent frames, float32."""
    keep_text_B: Tensor
    """False where the sample's text embedding is dropped, bool."""

    def to(self, device: torch.device | str) -> "Draws":
        """Return the same numbers on another device."""
        moved = {field.name: getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)}
        return Draws(**moved)


class LossOutput(NamedTuple):
    """The loss and what it was made from; the mean of `loss_per_sample_B` times `loss_scale` is `loss`."""

    loss: Tensor
    loss_per_sample_B: Tensor
    x0_pred_B_C_T_H_W: Tensor


def sigma_from_uniforms(objective: Predict2Objective, u_gauss_B: Tensor, u_mask_B: Tensor, u_log_B: Tensor) -> Tensor:
    """Turn three uniforms per sample into a training noise level.

    sigma = exp(ndtri(u_gauss)), times sqrt(state_t) with `video_noise`; where u_mask < high_sigma_ratio it is
    replaced by exp(ln min + u_log (ln max - ln min)), which is not multiplied.

    Args:
        objective: supplies state_t, video_noise and the high-sigma settings.
        u_gauss_B: uniforms in (0, 1), shape [B], float64.
        u_mask_B: uniforms in [0, 1), shape [B], float64.
        u_log_B: uniforms in [0, 1), shape [B], float64.

    Returns: sigma_B, shape [B], the dtype of `u_gauss_B`; > 0.
    """
    sigma_B = torch.special.ndtri(u_gauss_B).exp()
    if objective.video_noise:
        sigma_B = sigma_B * math.sqrt(objective.state_t)
    log_min, log_max = math.log(objective.high_sigma_min), math.log(objective.high_sigma_max)
    high_B = torch.exp(log_min + u_log_B * (log_max - log_min))
    return torch.where(u_mask_B < objective.high_sigma_ratio, high_B, sigma_B)


def draw(
    objective: Predict2Objective,
    *,
    seed: int,
    step: int,
    sample_id_B: Sequence[int],
    latent_shape: tuple[int, int, int, int],
) -> Draws:
    """Draw every random number of one batch, sample by sample.

    Each number is keyed by (seed, step, sample id, what it is for), so a sample's draws do not depend on the
    other samples of its batch, the data-parallel size or the device.

    Args:
        objective: the training objective.
        seed: the run's seed.
        step: training step the batch belongs to.
        sample_id_B: a stable id per sample.
        latent_shape: (C, T, H, W) of one sample's latent.

    Returns: Draws on the CPU.
    """
    C, T, H, W = latent_shape
    sigma, epsilon, num_conditional, keep_text = [], [], [], []
    for sample_id in sample_id_B:
        key = (seed, step, int(sample_id))
        u_gauss, u_mask, u_log = torch.rand(3, generator=generator(*key, "sigma"), dtype=torch.float64).unbind()
        u_gauss = u_gauss.clamp(min=2.0**-53)  # torch.rand may return 0, whose normal quantile is -inf
        sigma.append(sigma_from_uniforms(objective, u_gauss[None], u_mask[None], u_log[None]))
        epsilon.append(torch.randn(C, T, H, W, generator=generator(*key, "epsilon")))
        low, high = objective.min_num_conditional_frames, objective.max_num_conditional_frames
        count = torch.randint(low, high + 1, (), generator=generator(*key, "num_conditional_frames"))
        num_conditional.append(count if T > 1 else torch.zeros_like(count))  # an image has nothing to continue
        u_text = torch.rand((), generator=generator(*key, "text_dropout"), dtype=torch.float64)
        keep_text.append(u_text >= objective.text_dropout)
    return Draws(
        sigma_B_1=torch.stack(sigma),
        epsilon_B_C_T_H_W=torch.stack(epsilon),
        condition_mask_B_1_T_H_W=condition_mask(torch.stack(num_conditional), (T, H, W)),
        keep_text_B=torch.stack(keep_text),
    )


def condition_mask(num_conditional_frames_B: Tensor, grid_T_H_W: tuple[int, int, int]) -> Tensor:
    """Return the mask that is 1 on each sample's first conditional latent frames.

    Args:
        num_conditional_frames_B: number of clean frames per sample, shape [B], integer.
        grid_T_H_W: latent frames, height and width.

    Returns: condition_mask_B_1_T_H_W, shape [B, 1, T, H, W], float32.
    """
    T, H, W = grid_T_H_W
    frame_T = torch.arange(T, device=num_conditional_frames_B.device)
    mask_B_T = (frame_T < num_conditional_frames_B[:, None]).float()
    return mask_B_T[:, None, :, None, None].expand(-1, 1, T, H, W).contiguous()


def scalings(sigma: Tensor) -> Scalings:
    """Return the rectified-flow preconditioning of a noise level.

    t = sigma / (sigma + 1); c_in = c_skip = 1 - t; c_out = -t; c_noise = t. The network output is the velocity
    eps - x0 at time t.

    Args:
        sigma: noise level, any shape; > 0.

    Returns: Scalings of sigma's shape and dtype.
    Source: cosmos-predict2, module/denoiser_scaling.py (RectifiedFlowScaling); Liu et al. 2022, arXiv:2209.03003.
    """
    t = sigma / (sigma + 1)
    return Scalings(c_skip=1 - t, c_out=-t, c_in=1 - t, c_noise=t)


def loss_weight(sigma: Tensor) -> Tensor:
    """Return w = (1 + sigma)^2 / sigma^2 = 1 / t^2, which makes the x0 error uniform in velocity space.

    Args:
        sigma: noise level, any shape; > 0.

    Returns: the weight, of sigma's shape and dtype.
    Source: cosmos-predict2, models/video2world_model.py.
    """
    return (1 + sigma) ** 2 / sigma**2


def add_noise(x0_B_C_T_H_W: Tensor, draws: Draws) -> Tensor:
    """Return xt = x0 + sigma * eps (variance-exploding form), shape [B, C, T, H, W], the dtype of x0."""
    return x0_B_C_T_H_W + _per_sample(draws.sigma_B_1, x0_B_C_T_H_W) * draws.epsilon_B_C_T_H_W


def drop_text(crossattn_emb_B_L_E: Tensor, keep_text_B: Tensor) -> Tensor:
    """Multiply the whole text embedding of dropped samples by 0.

    Args:
        crossattn_emb_B_L_E: text embeddings, shape [B, L, E].
        keep_text_B: False where the text is dropped, shape [B], bool.

    Returns: embeddings of the same shape and dtype.
    """
    return crossattn_emb_B_L_E * keep_text_B.to(crossattn_emb_B_L_E.dtype)[:, None, None]


def network_input(objective: Predict2Objective, x0_B_C_T_H_W: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Return what the network sees in training: scaled noisy latents and a timestep per frame.

    Ordinary frames: c_in (x0 + sigma eps) at timestep t. Conditional frames: x0 / sigma_data, clean and unscaled,
    at the timestep of `sigma_conditional`.

    Args:
        objective: the training objective.
        x0_B_C_T_H_W: clean latents, shape [B, C, T, H, W], float32.
        draws: the batch's random numbers.

    Returns: (x_B_C_T_H_W, timesteps_B_T), both of x0's dtype.
    """
    xt = add_noise(x0_B_C_T_H_W, draws)
    return _condition(objective, xt, draws.sigma_B_1, x0_B_C_T_H_W, draws.condition_mask_B_1_T_H_W)


def x0_prediction(
    xt_B_C_T_H_W: Tensor,
    net_out_B_C_T_H_W: Tensor,
    sigma_B_1: Tensor,
    gt_frames_B_C_T_H_W: Tensor | None = None,
    condition_mask_B_1_T_H_W: Tensor | None = None,
) -> Tensor:
    """Return x0 = c_skip xt + c_out net_out, with conditional frames replaced by the given clean frames.

    Args:
        xt_B_C_T_H_W: noisy latents, shape [B, C, T, H, W].
        net_out_B_C_T_H_W: network output, shape [B, C, T, H, W]; cast to the dtype of xt.
        sigma_B_1: noise level, shape [B, 1].
        gt_frames_B_C_T_H_W: clean latents, used on conditional frames; None without conditioning.
        condition_mask_B_1_T_H_W: 1 on conditional frames; None without conditioning.

    Returns: predicted clean latents, shape [B, C, T, H, W], the dtype of xt.
    """
    c_skip, c_out, _, _ = (_per_sample(c, xt_B_C_T_H_W) for c in scalings(sigma_B_1))
    x0_pred = c_skip * xt_B_C_T_H_W + c_out * net_out_B_C_T_H_W.to(xt_B_C_T_H_W.dtype)
    if gt_frames_B_C_T_H_W is None or condition_mask_B_1_T_H_W is None:
        return x0_pred
    return torch.where(condition_mask_B_1_T_H_W.bool(), gt_frames_B_C_T_H_W.to(x0_pred.dtype), x0_pred)


def weighted_squared_error(x0_B_C_T_H_W: Tensor, x0_pred_B_C_T_H_W: Tensor, sigma_B_1: Tensor) -> Tensor:
    """Return w(sigma) (x0 - x0_pred)^2 per element, shape [B, C, T, H, W]."""
    return _per_sample(loss_weight(sigma_B_1), x0_B_C_T_H_W) * (x0_B_C_T_H_W - x0_pred_B_C_T_H_W) ** 2


def loss(objective: Predict2Objective, x0_B_C_T_H_W: Tensor, net_out_B_C_T_H_W: Tensor, draws: Draws) -> LossOutput:
    """Return the training loss.

    loss = loss_scale * mean over B, C, T, H, W of w (x0 - x0_pred)^2. Conditional frames add zero but stay in
    the denominator. In exact arithmetic it equals loss_scale * mean of (1 - mask) (net_out - (eps - x0))^2.

    This x0 form is the published one, and it is sound in float32 up to sigma 1e5: c_skip xt stays of the size of
    the data, so the rounding of x0_pred, divided by t, is about 1e-7 (1 + 1/t) in velocity units. The velocity
    form would be as accurate, but would not carry the published rounding of c_in into the target, and so would
    disagree with what the network was shown whenever sigma is given in float32.

    Args:
        objective: the training objective.
        x0_B_C_T_H_W: clean latents, shape [B, C, T, H, W], float32.
        net_out_B_C_T_H_W: network output for `network_input`, shape [B, C, T, H, W], any float dtype.
        draws: the random numbers `network_input` was made with.

    Returns: LossOutput in x0's dtype: loss (scalar, with loss_scale), loss_per_sample_B (without), x0_pred.
    """
    x0_pred = x0_prediction(
        add_noise(x0_B_C_T_H_W, draws),
        net_out_B_C_T_H_W,
        draws.sigma_B_1,
        x0_B_C_T_H_W,
        draws.condition_mask_B_1_T_H_W,
    )
    error = weighted_squared_error(x0_B_C_T_H_W, x0_pred, draws.sigma_B_1)
    loss_per_sample_B = error.mean(dim=(1, 2, 3, 4))
    return LossOutput(objective.loss_scale * loss_per_sample_B.mean(), loss_per_sample_B, x0_pred)


def denoise(
    objective: Predict2Objective,
    network_fn: NetworkFn,
    x_B_C_T_H_W: Tensor,
    sigma: Tensor | float,
    gt_frames_B_C_T_H_W: Tensor | None = None,
    condition_mask_B_1_T_H_W: Tensor | None = None,
) -> Tensor:
    """Predict the clean latents of a sampler state with one network pass.

    Args:
        objective: the objective the network was trained with.
        network_fn: (x_B_C_T_H_W, timesteps_B_T) -> net_out_B_C_T_H_W.
        x_B_C_T_H_W: sampler state, shape [B, C, T, H, W], float32.
        sigma: its noise level, one for the whole batch; > 0.
        gt_frames_B_C_T_H_W: clean latents for conditional frames; None without conditioning.
        condition_mask_B_1_T_H_W: 1 on conditional frames; None without conditioning.

    Returns: predicted clean latents, shape [B, C, T, H, W], float32; equal to gt_frames on conditional frames.
    """
    sigma_B_1 = torch.as_tensor(sigma, dtype=torch.float64, device=x_B_C_T_H_W.device).expand(len(x_B_C_T_H_W), 1)
    x_in, timesteps_B_T = _condition(objective, x_B_C_T_H_W, sigma_B_1, gt_frames_B_C_T_H_W, condition_mask_B_1_T_H_W)
    net_out = network_fn(x_in, timesteps_B_T)
    return x0_prediction(x_B_C_T_H_W, net_out, sigma_B_1, gt_frames_B_C_T_H_W, condition_mask_B_1_T_H_W)


def _condition(
    objective: Predict2Objective,
    xt: Tensor,
    sigma_B_1: Tensor,
    gt_frames: Tensor | None,
    mask_B_1_T_H_W: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Scale noisy latents for the network and put clean frames and their timestep in place ("frame_replace")."""
    _, _, c_in, c_noise = scalings(sigma_B_1)
    x = _per_sample(c_in, xt) * xt
    timesteps_B_T = c_noise.to(xt.dtype).expand(xt.shape[0], xt.shape[2])  # [B, 1] -> [B, T]
    if gt_frames is None or mask_B_1_T_H_W is None:
        return x, timesteps_B_T
    conditional_timestep = objective.sigma_conditional / (1 + objective.sigma_conditional)
    x = torch.where(mask_B_1_T_H_W.bool(), gt_frames.to(x.dtype) / objective.sigma_data, x)
    return x, timesteps_B_T.masked_fill(mask_B_1_T_H_W[:, 0, :, 0, 0].bool(), conditional_timestep)


def _per_sample(value_B_1: Tensor, like_B_C_T_H_W: Tensor) -> Tensor:
    """View a value per sample as [B, 1, 1, 1, 1] in the dtype of the latents it will multiply."""
    return value_B_1.to(like_B_C_T_H_W.dtype).reshape(-1, 1, 1, 1, 1)

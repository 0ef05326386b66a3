"""What every diffusion objective has: the interface that training and sampling use, and the pieces they share.

An objective says how latents are noised, what the network sees, what it is scored by and how latents are sampled. Each
is one file beside this one and one entry of `OBJECTIVES`; training and inference hold an `Objective` and never ask
which.

Notation: `x0` clean latent, `eps` unit Gaussian noise, `sigma` noise level, `xt = x0 + sigma eps`. Shards and video
tokenizers hold latents of standard deviation 1; `x0` has `sigma_data`, so it is `sigma_data` times those.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from cosmos_nemo.errors import UserError

NetworkFn = Callable[[Tensor, Tensor], Tensor]
"""A network with text, masks and fps bound: (x_B_C_T_H_W, timesteps [B] or [B, T]) -> net_out_B_C_T_H_W."""
OnStep = Callable[[int, Tensor, Tensor], None]
"""Observer of sampling: (step, state after the step in float64, the step's x0 prediction)."""


@dataclass(frozen=True, kw_only=True)
class Draws:
    """All random numbers of one training batch; an objective that needs more derives from this."""

    sigma_B_1: Tensor
    """Noise level per sample, float64 when made by `Objective.draw`; > 0."""
    epsilon_B_C_T_H_W: Tensor
    """Unit Gaussian noise, float32."""
    condition_mask_B_1_T_H_W: Tensor
    """1 on conditional (given) latent frames, float32."""
    keep_text_B: Tensor
    """False where the sample's text embedding is dropped, bool."""

    def to(self, device: torch.device | str) -> Self:
        """Return the same numbers on another device."""
        moved = {field.name: getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)}
        return type(self)(**moved)


@dataclass(frozen=True, kw_only=True)
class GivenFrames:
    """Latent frames that the network continues."""

    x0_B_C_T_H_W: Tensor
    """Clean latents; only the given frames are read."""
    mask_B_1_T_H_W: Tensor
    """1 on given frames."""


class LossOutput(NamedTuple):
    """A training loss and what it was made from."""

    loss: Tensor
    """Scalar; what is minimised."""
    loss_per_sample_B: Tensor
    """Its part per sample, before the factor that all samples share."""
    x0_pred_B_C_T_H_W: Tensor
    """Predicted clean latents."""


DrawsT = TypeVar("DrawsT", bound=Draws)


class Objective(abc.ABC, Generic[DrawsT]):
    """A diffusion objective; subclasses are frozen dataclasses whose fields are its numbers.

    Nothing here knows a process group: on several ranks every one computes the same, from a network whose output is
    whole on each of them.
    """

    kind: ClassVar[str]
    """Its name in run.json."""
    samplers: ClassVar[tuple[str, ...]]
    """Names that `sample` knows; the first is the published one."""

    sigma_data: float
    """Standard deviation of `x0`."""

    @classmethod
    @abc.abstractmethod
    def published(cls, task: str) -> Self:
        """Return the objective that the published networks of a task were trained with."""

    @property
    @abc.abstractmethod
    def given_frame_counts(self) -> Sequence[int]:
        """Numbers of latent frames, above 0, that the network learns to continue; empty if it continues none."""

    def notes(self, latent_frames: int) -> list[str]:
        """Return lines for people about training on clips of this length: legal settings that look unintended."""
        return []

    @abc.abstractmethod
    def draw(
        self, *, seed: int, step: int, sample_id_B: Sequence[int], latent_shape: tuple[int, int, int, int]
    ) -> DrawsT:
        """Draw every random number of one batch, sample by sample.

        Each number is keyed by the seed, the step, the sample (where it is one per sample) and its purpose, so it does
        not depend on the batch, the data-parallel size or the device.

        Args:
            seed: the run's seed.
            step: training step the batch belongs to.
            sample_id_B: a stable id per sample.
            latent_shape: (C, T, H, W) of one sample's latent.

        Returns:
            The numbers, on the CPU.
        """

    @abc.abstractmethod
    def network_input(self, x0_B_C_T_H_W: Tensor, draws: DrawsT) -> tuple[Tensor, Tensor]:
        """Return what the network sees in training.

        Args:
            x0_B_C_T_H_W: clean latents, shape [B, C, T, H, W], float32.
            draws: the batch's random numbers.

        Returns:
            (x_B_C_T_H_W, timesteps of shape [B] or [B, T]), both of x0's dtype.
        """

    @abc.abstractmethod
    def loss(
        self, x0_B_C_T_H_W: Tensor, net_out_B_C_T_H_W: Tensor, draws: DrawsT, network: nn.Module | None = None
    ) -> LossOutput:
        """Return the training loss.

        Args:
            x0_B_C_T_H_W: clean latents, shape [B, C, T, H, W], float32.
            net_out_B_C_T_H_W: network output for `network_input`, shape [B, C, T, H, W], any float dtype.
            draws: the random numbers `network_input` was made with.
            network: the network without its wrappers, for a term that one of its submodules learns (such as the
                log-variance of a noise level). Such a submodule is called alike on every rank, so it has to see to
                its gradient over context-parallel ranks itself.

        Returns:
            The loss, in x0's dtype.
        """

    @abc.abstractmethod
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
        """Sample clean latents.

        Args:
            network: the network under the prompt.
            noise_B_C_T_H_W: unit Gaussian noise, such as `sampler.unit_noise` makes; float32.
            num_steps: sampler steps.
            sampler: one of `samplers`; None is the published one.
            uncond: the network under what guidance leads away from; None is no guidance.
            guidance: g in cond + g (cond - uncond); at 0 the second network pass is left out.
            given: frames to continue.
            on_step: called after every step.

        Returns:
            Clean latents `x0`, of the noise's shape, float32.
        """

    def to_json(self) -> dict[str, Any]:
        """Return the objective for run.json; `diffusion.objective_from_json` reads it."""
        return {"kind": self.kind, **asdict(self)}  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the objective of this kind with these fields.

        Raises:
            UserError: a field is unknown or missing, or has an impossible value.
        """
        known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
        if unknown := sorted(set(values) - set(known)):
            raise UserError(f"The objective has an unknown field '{unknown[0]}'; update cosmos-nemo.")
        try:
            return cls(**values)
        except TypeError as error:
            raise UserError(f"The objective '{cls.kind}' is incomplete: {error}.") from error

    def sampler_name(self, name: str | None) -> str:
        """Return the sampler to use.

        Raises:
            UserError: this objective has none of that name.
        """
        if name is None:
            return self.samplers[0]
        if name not in self.samplers:
            raise UserError(f"The sampler '{name}' is unknown here; use {' or '.join(self.samplers)}.")
        return name


def condition_mask(num_conditional_frames_B: Tensor, grid_T_H_W: tuple[int, int, int]) -> Tensor:
    """Return the mask that is 1 on each sample's first conditional latent frames.

    Args:
        num_conditional_frames_B: number of given frames per sample, shape [B], integer.
        grid_T_H_W: latent frames, height and width.

    Returns:
        condition_mask_B_1_T_H_W, shape [B, 1, T, H, W], float32.
    """
    T, H, W = grid_T_H_W
    frame_T = torch.arange(T, device=num_conditional_frames_B.device)
    mask_B_T = (frame_T < num_conditional_frames_B[:, None]).float()
    return mask_B_T[:, None, :, None, None].expand(-1, 1, T, H, W).contiguous()


def add_noise(x0_B_C_T_H_W: Tensor, draws: Draws) -> Tensor:
    """Return xt = x0 + sigma * eps (variance-exploding form), shape [B, C, T, H, W], the dtype of x0."""
    return x0_B_C_T_H_W + per_sample(draws.sigma_B_1, x0_B_C_T_H_W) * draws.epsilon_B_C_T_H_W


def drop_text(crossattn_emb_B_L_E: Tensor, keep_text_B: Tensor) -> Tensor:
    """Multiply the whole text embedding of dropped samples by 0.

    Args:
        crossattn_emb_B_L_E: text embeddings, shape [B, L, E].
        keep_text_B: False where the text is dropped, shape [B], bool.

    Returns:
        Embeddings of the same shape and dtype.
    """
    return crossattn_emb_B_L_E * keep_text_B.to(crossattn_emb_B_L_E.dtype)[:, None, None]


def guided(cond: Tensor, uncond: Tensor, guidance: float) -> Tensor:
    """Return cond + g (cond - uncond): g = 0 is no guidance, and g = 7 is scale 8 of the usual form.

    Args:
        cond: prediction under the prompt.
        uncond: prediction under the negative prompt, same shape.
        guidance: g.

    Returns:
        The guided prediction, same shape.
    """
    return cond + guidance * (cond - uncond)


def per_sample(value_B: Tensor, like_B_C_T_H_W: Tensor) -> Tensor:
    """Return a value per sample, of shape [B] or [B, 1], as [B, 1, 1, 1, 1] in the dtype of the latents it meets."""
    return value_B.to(like_B_C_T_H_W.dtype).reshape(-1, 1, 1, 1, 1)

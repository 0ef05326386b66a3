"""What a DiT is given beside noisy latents and their timesteps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """The inputs of a DiT that are the same at every noise level; each network uses those that its config asks for."""

    crossattn_emb_B_L_E: Tensor
    """Text embedding, zero padded."""
    condition_mask_B_1_T_H_W: Tensor | None = None
    """1 on frames that are given; None means none."""
    padding_mask_B_1_H_W: Tensor | None = None
    """1 where pixels are padding; None means nowhere."""
    fps_B: Tensor | None = None
    """Frames per second; None for images."""

    def to(self, device: torch.device | str) -> Conditions:
        """Return the same inputs on another device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return Conditions(**{name: None if value is None else value.to(device) for name, value in values.items()})

    def bind(self, network: Callable[..., Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the network as a function of latents and timesteps.

        Args:
            network: a `DiT`, in any wrappers.
        """

        def bound(x_B_C_T_H_W: Tensor, timesteps: Tensor) -> Tensor:
            return network(
                x_B_C_T_H_W,
                timesteps,
                self.crossattn_emb_B_L_E,
                condition_mask_B_1_T_H_W=self.condition_mask_B_1_T_H_W,
                padding_mask_B_1_H_W=self.padding_mask_B_1_H_W,
                fps_B=self.fps_B,
            )

        return bound

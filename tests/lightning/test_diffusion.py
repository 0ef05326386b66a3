"""The training step of a diffusion model asks its objective for everything, and never which one it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from cosmos_nemo.data.batch import DiffusionBatch
from cosmos_nemo.diffusion.denoising import Draws, LossOutput
from cosmos_nemo.diffusion.predict2 import Predict2Objective

pytestmark = pytest.mark.nemo


class Network(nn.Module):
    """Returns its latents in bfloat16 and learns one number beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor, text: torch.Tensor, **conditions: Any) -> torch.Tensor:
        self.seen = {"text": text, **conditions}
        return x.bfloat16()


class Wrapper(nn.Module):
    """As data parallelism and bf16 wrap a network."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self.module(*args, **kwargs)


class MadeUp:
    """An objective with latents of standard deviation 1/2 and a term that the network learns."""

    sigma_data = 0.5

    def draw(self, **keys: Any) -> Draws:
        return Predict2Objective(state_t=3, text_dropout=1.0).draw(**keys)

    def network_input(self, x0: torch.Tensor, draws: Draws) -> tuple[torch.Tensor, torch.Tensor]:
        return x0, torch.ones(len(x0))

    def loss(self, x0: torch.Tensor, net_out: torch.Tensor, draws: Draws, network: Network) -> LossOutput:
        self.x0, self.net_out = x0, net_out
        per_sample = (x0 * network.log_variance).mean(dim=(1, 2, 3, 4))
        return LossOutput(per_sample.mean(), per_sample, net_out)


def test_latents_conditions_and_the_bare_network_reach_the_objective() -> None:
    from cosmos_nemo.lightning.diffusion import DiTModule
    from cosmos_nemo.lightning.module import VALIDATION_STEP

    objective, network = MadeUp(), Network()
    module = DiTModule(config=None, objective=objective)  # type: ignore[arg-type]
    module.module = Wrapper(Wrapper(network))
    batch = DiffusionBatch(
        sample_id_B=torch.tensor([1, 2]),
        keys=["1", "2"],
        latent_B_C_T_H_W=torch.randn(2, 4, 3, 2, 2),
        crossattn_emb_B_L_E=torch.randn(2, 5, 6),
        fps_B=torch.tensor([16.0, 24.0]),
        padding_mask_B_1_H_W=torch.zeros(2, 1, 2, 2),
    )
    loss = module.forward_step(batch, 0)
    loss.backward()
    assert torch.equal(objective.x0, batch.latent_B_C_T_H_W / 2)
    assert objective.net_out.dtype == torch.float32
    assert network.log_variance.grad is not None and loss.item() == pytest.approx(objective.x0.mean().item() * 2)
    assert not network.seen["text"].any(), "every text is dropped in training"
    assert torch.equal(network.seen["fps_B"], batch.fps_B)
    assert network.seen["condition_mask_B_1_T_H_W"][:, :, 0].all()
    assert network.seen["padding_mask_B_1_H_W"] is batch.padding_mask_B_1_H_W
    module.forward_step(batch, VALIDATION_STEP)
    assert network.seen["text"] is batch.crossattn_emb_B_L_E, "no text is dropped in validation"

"""Training of diffusion transformers on latents, whatever their objective."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from cosmos_nemo.data.batch import DiffusionBatch
from cosmos_nemo.data.dataset import Dataset
from cosmos_nemo.diffusion.denoising import Objective, drop_text
from cosmos_nemo.lightning.module import VALIDATION_STEP
from cosmos_nemo.lightning.published_weights import FromPublished
from cosmos_nemo.models.common.lora import LoRA
from cosmos_nemo.models.dit.conditions import Conditions
from cosmos_nemo.models.dit.config import DiTConfig


class DiTModule(FromPublished):
    """A DiT with a diffusion objective. The network runs in its parameter dtype, the objective in float32.

    Args:
        config: size and settings of the network.
        objective: noise levels, conditional frames, loss.
        seed: see `CosmosModule`.
        dit_path: weights to start from: a published checkpoint (file or folder), or a run folder of this project.
            None starts from random weights. Not read when a run is resumed.
        use_ema: take the averaged weights of `dit_path`.
        ema_decay: see `CosmosModule`.
        ema_rate: see `CosmosModule`; 0.1 in the published examples.
        lora: see `CosmosModule`.
    """

    weights_field: ClassVar[str] = "dit_path"

    def __init__(
        self,
        config: DiTConfig,
        objective: Objective[Any],
        seed: int = 0,
        dit_path: str | None = None,
        use_ema: bool = False,
        ema_decay: float | None = None,
        ema_rate: float | None = None,
        lora: LoRA | None = None,
    ) -> None:
        super().__init__(seed=seed, ema_decay=ema_decay, ema_rate=ema_rate, lora=lora)
        self.config = config
        self.objective = objective
        self.dit_path = dit_path
        self.use_ema = use_ema

    def settings(self) -> dict[str, Any]:
        """See `CosmosModule`."""
        return {"objective": self.objective.to_json(), **super().settings()}

    def notes(self, dataset: Dataset) -> list[str]:
        """Add what the objective has to say about the clips' length."""
        assert dataset.latent_shape is not None
        return [*super().notes(dataset), *self.objective.notes(dataset.latent_shape[1])]

    def next_commands(self, run: str) -> list[str]:
        """Return how to generate."""
        video = self.config.video_condition
        condition, output = ("--input IMAGE_OR_VIDEO ", "out.mp4") if video else ("", "out.png")
        return [f'cosmos-nemo generate --checkpoint {run} {condition}--prompt "..." --output {output}']

    def forward_step(self, batch: DiffusionBatch, step: int) -> Tensor:
        """Return the training loss of one micro batch; at `VALIDATION_STEP` no text is dropped."""
        x0 = batch.latent_B_C_T_H_W.float() * self.objective.sigma_data
        draws = self.objective.draw(
            seed=self.seed,
            step=step,
            sample_id_B=batch.sample_id_B.tolist(),
            latent_shape=batch.latent_shape,
        ).to(x0.device)
        text = batch.crossattn_emb_B_L_E
        conditions = Conditions(
            crossattn_emb_B_L_E=text if step == VALIDATION_STEP else drop_text(text, draws.keep_text_B),
            condition_mask_B_1_T_H_W=draws.condition_mask_B_1_T_H_W,
            padding_mask_B_1_H_W=batch.padding_mask_B_1_H_W,
            fps_B=batch.fps_B,
        )
        net_out = conditions.bind(self.forward)(*self.objective.network_input(x0, draws))
        return self.objective.loss(x0, net_out.float(), draws, self.network).loss

"""Training of autoregressive networks: the next token of a video's ids."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

from torch import Tensor

from cosmos_nemo.data.batch import TokenBatch
from cosmos_nemo.data.dataset import Dataset
from cosmos_nemo.errors import UserError
from cosmos_nemo.lightning.published_weights import FromPublished
from cosmos_nemo.models.autoregressive.config import ARConfig
from cosmos_nemo.models.autoregressive.loss import NextTokenObjective, next_token_labels, next_token_loss
from cosmos_nemo.models.autoregressive.sequence import to_sequence
from cosmos_nemo.models.common.lora import LoRA
from cosmos_nemo.parallel.collectives import sum_forward


class ARModule(FromPublished):
    """An autoregressive network with the next-token objective. The loss is float32 whatever the network's dtype.

    Args:
        config: size and settings of the network.
        objective: which tokens are learnt.
        seed: see `CosmosModule`; nothing in the step itself is random.
        ar_path: weights to start from: a published checkpoint (`model.pt`), or a run folder of this project. None
            starts from random weights. Not read when a run is resumed.
        use_ema: take the averaged weights of `ar_path`.
        lora: see `CosmosModule`.
        ema_decay: see `CosmosModule`.
        ema_rate: see `CosmosModule`.
    """

    weights_field: ClassVar[str] = "ar_path"

    def __init__(
        self,
        config: ARConfig,
        objective: NextTokenObjective,
        seed: int = 0,
        ar_path: str | None = None,
        use_ema: bool = False,
        lora: LoRA | None = None,
        ema_decay: float | None = None,
        ema_rate: float | None = None,
    ) -> None:
        super().__init__(seed=seed, ema_decay=ema_decay, ema_rate=ema_rate, lora=lora)
        self.config = config
        self.objective = objective
        self.ar_path = ar_path
        self.use_ema = use_ema

    def settings(self) -> dict[str, Any]:
        """See `CosmosModule`."""
        return {"objective": asdict(self.objective), **super().settings()}

    def check_data(self, dataset: Dataset) -> None:
        """Also raise if the objective leaves no frame to predict."""
        super().check_data(dataset)
        assert dataset.token_shape is not None
        frames, given = dataset.token_shape[0], self.objective.num_condition_latents_t
        if frames <= given:
            raise UserError(
                f"{dataset.field} has clips of {frames} latent frames, of which num_condition_latents_t={given} are "
                "given: nothing is left to predict. Prepare longer clips (33 frames in the published models), or set "
                "model.objective.num_condition_latents_t lower."
            )

    def next_commands(self, run: str) -> list[str]:
        """Return how to generate and to export."""
        prompt = '--prompt "..." ' if self.config.crossattn_emb_channels else ""
        return [
            f"cosmos-nemo generate --checkpoint {run} --input VIDEO {prompt}--output out.mp4",
            f"cosmos-nemo ckpt export {run} model.pt",
        ]

    def forward_step(self, batch: TokenBatch, step: int) -> Tensor | dict[str, Tensor]:
        """Return the loss of one micro batch, with its two parts."""
        sequence = to_sequence(batch.tokens_B_T_H_W, self.config)
        inputs: dict[str, Any] = {"latent_shape": batch.token_shape}
        if self.config.crossattn_emb_channels:
            inputs |= {"context_B_L_E": batch.crossattn_emb_B_L_E, "context_mask_B_L": batch.text_mask_B_L}
        out = self.forward(sequence, **inputs)
        network = self.network
        if not network.post_process:
            return out
        loss = next_token_loss(
            out,
            next_token_labels(sequence, latent_shape=batch.token_shape, config=self.config, objective=self.objective),
            objective=self.objective,
            token_range=network.token_range(sequence.shape[1]),
            tp_group=network.groups.tp,
        )
        # Each context-parallel rank has the part of its tokens; the sum is what is reported, and has their gradients.
        terms = {"loss": loss.total, "cross_entropy": loss.cross_entropy.detach(), "z_loss": loss.z_loss.detach()}
        return {name: sum_forward(term, network.groups.cp) for name, term in terms.items()}

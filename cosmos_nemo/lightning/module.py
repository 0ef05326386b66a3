"""The LightningModule that trains a diffusion transformer under NeMo's MegatronStrategy."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from megatron.core import parallel_state
from torch import Tensor

from cosmos_nemo.data.batch import DiffusionBatch
from cosmos_nemo.diffusion import predict2
from cosmos_nemo.lightning.reduction import MeanOverGlobalBatch
from cosmos_nemo.models.dit.config import DiTConfig

logger = logging.getLogger(__name__)

VALIDATION_STEP = -1
"""Takes the place of the training step in the keys of validation noise, which is therefore the same every time."""


class DiTModule(pl.LightningModule):
    """A DiT with the Predict2 objective.

    All random numbers of a step are keyed by (seed, optimizer step, sample id): they do not depend on the number of
    processes, on resuming or on NeMo's own seed. The network runs in its parameter dtype, the objective in float32.

    Args:
        config: size and settings of the network.
        objective: noise levels, conditioning frames, loss weight.
        seed: of the noise and of text dropout.
        dit_path: weights to start from: a published checkpoint (file or folder), or a run folder of this project.
            None starts from random weights. Not read when a run is resumed.
        use_ema: take the averaged weights (`net_ema.`) of `dit_path`.
    """

    def __init__(
        self,
        config: DiTConfig,
        objective: predict2.Predict2Objective,
        seed: int = 0,
        dit_path: str | None = None,
        use_ema: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.objective = objective
        self.seed = seed
        self.dit_path = dit_path
        self.use_ema = use_ema
        self.resuming = False  # set by `train` when the weights come from a checkpoint of the run
        # Kept out of the module tree: it refers back to this module.
        self.__dict__["_reduction"] = MeanOverGlobalBatch(self)
        self.optim: Any = None  # set by the optimizer module

    @property
    def training_loss_reduction(self) -> MeanOverGlobalBatch:
        """From micro batches to the global batch; NeMo insists on a property."""
        return self.__dict__["_reduction"]

    @property
    def validation_loss_reduction(self) -> MeanOverGlobalBatch:
        """The same for validation."""
        return self.__dict__["_reduction"]

    def configure_model(self) -> None:
        """Builds the network once the model-parallel groups exist, and loads `dit_path`."""
        if "module" in self._modules:
            return
        from cosmos_nemo.models.dit.model import DiT

        # Loading is strict, so fresh weights would all be overwritten; drawing those of 14B takes minutes.
        self.config.perform_initialization = not (self.resuming or self.dit_path)
        module = DiT(self.config)
        source = None
        if not self.resuming:
            source = f"random weights, seed {self.config.init_seed}"
            if self.dit_path:
                source = load_initial_weights(module, self.dit_path, use_ema=self.use_ema)
        self.module = module
        if source and torch.distributed.get_rank() == 0:
            print(f"weights      {source}", flush=True)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The network's output; see `DiT.forward`."""
        return self.module(*args, **kwargs)

    def data_step(self, dataloader_iter: Iterator[Any]) -> DiffusionBatch:
        """Takes the next micro batch and moves it to the device of the weights."""
        item = next(dataloader_iter)
        batch = item[0] if isinstance(item, tuple) else item
        return batch.to(next(self.parameters()).device, non_blocking=True)

    def forward_step(self, batch: DiffusionBatch, step: int) -> Tensor:
        """The training loss of one micro batch with the random numbers of `step`.

        Args:
            batch: latents and text.
            step: optimizer step, or `VALIDATION_STEP`, in which no text is dropped.

        Returns:
            scalar, float32, the mean over the micro batch.
        """
        x0 = batch.latent_B_C_T_H_W.float()
        draws = predict2.draw(
            self.objective,
            seed=self.seed,
            step=step,
            sample_id_B=batch.sample_id_B.tolist(),
            latent_shape=tuple(x0.shape[1:]),
        ).to(x0.device)
        x, timesteps = predict2.network_input(self.objective, x0, draws)
        text = batch.crossattn_emb_B_L_E
        if step != VALIDATION_STEP:
            text = predict2.drop_text(text, draws.keep_text_B)
        net_out = self.forward(
            x,
            timesteps,
            text,
            condition_mask_B_1_T_H_W=draws.condition_mask_B_1_T_H_W if self.config.video_condition else None,
            padding_mask_B_1_H_W=batch.padding_mask_B_1_H_W,
            fps_B=batch.fps_B if self.config.rope_enable_fps_modulation else None,
        )
        return predict2.loss(self.objective, x0, net_out.float(), draws).loss

    def training_step(self, batch: DiffusionBatch, batch_idx: int | None = None) -> Tensor:
        """The loss of one micro batch at the current optimizer step."""
        return self.forward_step(batch, self.trainer.global_step)

    def validation_step(self, batch: DiffusionBatch, batch_idx: int | None = None) -> Tensor:
        """The loss of one validation batch with noise that is the same at every validation."""
        return self.forward_step(batch, VALIDATION_STEP)


def load_initial_weights(module: torch.nn.Module, path: str, *, use_ema: bool = False) -> str:
    """Loads a published checkpoint, or one of this project's run folders, into the network.

    Args:
        module: the DiT, before it is wrapped.
        path: file or folder.
        use_ema: take the averaged weights.

    Returns:
        what was loaded, for people: path, number of tensors, SHA-256.

    Raises:
        UserError: nothing there, damaged, or of another model.
    """
    from cosmos_nemo.checkpoints import convert, layout, megatron, published

    if layout.is_training_checkpoint(path):
        info = megatron.load_training_checkpoint(module, path)
        return f"{info.path} (step {info.step})"
    state = published.read_published(path, ema=use_ema)
    convert.load_published_into(module, state)
    return f"{path}: {len(state)} tensors{_digest(Path(path))}"


def _digest(path: Path) -> str:
    # Reading 28 GB twice takes a minute, so only one rank does it, and only for single files.
    if path.is_dir() or torch.distributed.get_rank() != 0:
        return ""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 24):
            digest.update(chunk)
    return f", sha256 {digest.hexdigest()}"


def data_parallel_world() -> tuple[int, int, Any]:
    """Rank, size and group among the processes that read different samples."""
    return (
        parallel_state.get_data_parallel_rank(),
        parallel_state.get_data_parallel_world_size(),
        parallel_state.get_data_parallel_group(),
    )

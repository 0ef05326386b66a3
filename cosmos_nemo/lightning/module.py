"""The base of the Lightning modules: a network with its training objective.

`train`, the checks before it, checkpoints, metrics and resuming know nothing else about a model. What the network is,
which parallelism it has and which data fits it is known to its family (`cosmos_nemo.families`), which its config names.

Training a part only: `lora` adds adapters to a frozen network; for anything else (a frozen encoder) override `adapt`.
It gets the network once its initial weights are in, adds what it adds, and calls `requires_grad_(False)` on what stays.
Nothing else is needed: Megatron's gradient buffers, the optimizer and the moving average take the parameters that
require gradients; `StartCheck` stops a run whose gradient is zero, or whose trained parameters do not move. Two things
to know. A layer that is recomputed gets no gradient unless its *input* requires one: with a frozen embedding, call
`requires_grad_()` on the embedding's output. And `adapt` also runs when a run is resumed, before everything is loaded
from the checkpoint, frozen parameters included.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from cosmos_nemo import families
from cosmos_nemo.data.dataset import Dataset
from cosmos_nemo.families.architecture import Architecture
from cosmos_nemo.families.family import Family
from cosmos_nemo.lightning.averaging import Averaging
from cosmos_nemo.lightning.reduction import MeanOverGlobalBatch
from cosmos_nemo.models.common.adapters import add_adapters
from cosmos_nemo.models.common.lora import LoRA

VALIDATION_STEP = -1
"""Takes the place of the training step in the keys of validation's random numbers: the same every time."""


class CosmosModule(pl.LightningModule, abc.ABC):
    """A network with its training objective. All random numbers of a step are keyed by (seed, step, sample id).

    A subclass sets `weights_field`, gives `self.config` (a Megatron `TransformerConfig`: NeMo copies the parallel sizes
    and dtypes into it) and implements the abstract methods. `forward_step` is what it trains.

    Args:
        seed: of the run, for everything random in training, fresh weights, the shuffle and cuts of videos included
            where those have no seed of their own.
        ema_decay: keep a moving average of the trained weights with this decay; see `averaging.Averaging`.
        ema_rate: the same with the power function, whose memory grows with the run; 0.1 upstream.
        lora: train adapters of this kind instead of the network; None trains the network.
    """

    weights_field: ClassVar[str]
    """Name of the constructor argument with the weights to start from, for messages."""

    config: Any

    def __init__(
        self,
        *,
        seed: int = 0,
        ema_decay: float | None = None,
        ema_rate: float | None = None,
        lora: LoRA | None = None,
    ) -> None:
        super().__init__()
        self.seed = seed
        self.averaging = Averaging(ema_decay, ema_rate)
        self.lora = lora
        self.resuming = False  # set by `train` when the weights come from a checkpoint of the run
        self.optim: Any = None  # set by the optimizer module
        # Kept out of the module tree: it refers back to this module.
        self.__dict__["_reduction"] = MeanOverGlobalBatch(self)

    # What a module says about itself.

    @property
    def network_config(self) -> Any:
        """The config of the network; it names the family."""
        return self.config

    @property
    def family(self) -> Family:
        """The family of the network."""
        return families.of_config(self.network_config)

    @property
    def architecture(self) -> Architecture:
        """The network as its weights see it. A checkpoint of another one is refused."""
        return families.architecture_of(self.network_config)

    def settings(self) -> dict[str, Any]:
        """Return the fields of the `RunRecord` that only the module knows: `objective`, and `lora`."""
        return {"lora": asdict(self.lora)} if self.lora else {}

    @property
    def weights_path(self) -> str | None:
        """Weights to start from; None starts from random ones."""
        return getattr(self, self.weights_field)

    @abc.abstractmethod
    def check_weights(self) -> None:
        """Compare `weights_path`, if it is set, with the network, reading no more than shapes.

        Raises:
            UserError: nothing there, damaged, or of another model.
        """

    @abc.abstractmethod
    def load_weights(self, network: Any) -> str:
        """Load `weights_path`, which is set, into the network; return what was loaded, for people.

        Raises:
            UserError: as `check_weights`.
        """

    def build_network(self, *, initialize: bool) -> nn.Module:
        """Return this rank's part of the network; the model-parallel groups exist.

        Args:
            initialize: False when every weight is about to be overwritten.
        """
        return self.family.build(self.network_config, seed=self.seed if initialize else None)

    def adapt(self, network: nn.Module) -> nn.Module:
        """Change what is trained; see the top of this file. Return the network."""
        if self.lora is not None:
            network.requires_grad_(False)
            add_adapters(network, self.lora, seed=self.seed)
        return network

    def check_data(self, dataset: Dataset) -> None:
        """Compare a data set with the network, and with the objective where that asks for something.

        Raises:
            UserError: it was made for another network.
        """
        self.family.fit(self.network_config, dataset)

    def notes(self, dataset: Dataset) -> list[str]:
        """Return lines for people before training starts: settings that are legal and may be meant otherwise."""
        return [f"{self.lora.words()}; the network itself is frozen"] if self.lora else []

    @abc.abstractmethod
    def next_commands(self, run: str) -> list[str]:
        """Return what a user types next.

        Args:
            run: the run folder, quoted for a shell.
        """

    @abc.abstractmethod
    def forward_step(self, batch: Any, step: int) -> Tensor | dict[str, Tensor]:
        """Return the loss of one micro batch with the random numbers of `step`.

        Args:
            batch: what the data module's loader makes; has `to`, `keys` and `sample_id_B`.
            step: optimizer step, or `VALIDATION_STEP`.

        Returns:
            scalar, float32, the mean over the micro batch; or a dictionary with it as "loss" and further scalars, which
            are averaged alike and written beside it. On pipeline stages but the last one: the stage's output.
        """

    def finish_validation(self, run_dir: Path, step: int) -> dict[str, Any]:
        """Return further numbers, and paths of pictures, for a validation's row; called on every rank at its end."""
        return {}

    # What is the same for all of them.

    @property
    def training_loss_reduction(self) -> MeanOverGlobalBatch:
        """From micro batches to the global batch; NeMo insists on a property."""
        return self.__dict__["_reduction"]

    @property
    def validation_loss_reduction(self) -> MeanOverGlobalBatch:
        """The same for validation."""
        return self.__dict__["_reduction"]

    def configure_model(self) -> None:
        """Build the network once the model-parallel groups exist, and load the weights to start from."""
        if "module" in self._modules:
            return
        loads = not self.resuming and bool(self.weights_path)
        network = self.build_network(initialize=not (self.resuming or loads))
        own_seed = getattr(self.network_config, "init_seed", None)
        seed = self.seed if own_seed is None else own_seed
        source = self.load_weights(network) if loads else f"random weights, seed {seed}"
        self.module = self.adapt(network)
        if not self.resuming and torch.distributed.get_rank() == 0:
            print(f"weights      {source}", flush=True)

    @property
    def network(self) -> Any:
        """The network inside the wrappers of data parallelism and of bf16."""
        network: Any = self._modules["module"]
        while hasattr(network, "module"):
            network = network.module
        return network

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the network's output."""
        return self.module(*args, **kwargs)

    def data_step(self, dataloader_iter: Iterator[Any]) -> Any:
        """Take the next micro batch and move it to the device of the weights."""
        item = next(dataloader_iter)
        batch = item[0] if isinstance(item, tuple) else item
        return batch.to(next(self.parameters()).device, non_blocking=True)

    def training_step(self, batch: Any, batch_idx: int | None = None) -> Tensor | dict[str, Tensor]:
        """Return the loss of one micro batch at the current optimizer step."""
        return self.forward_step(batch, self.trainer.global_step)

    def validation_step(self, batch: Any, batch_idx: int | None = None) -> Tensor | dict[str, Tensor]:
        """Return the loss of one validation batch; its random numbers are the same at every validation."""
        return self.forward_step(batch, VALIDATION_STEP)

    # NeMo looks for these names on pipeline stages but the last.

    def training_forward_step(self, batch: Any) -> Tensor | dict[str, Tensor]:
        """Return the output of an earlier pipeline stage; see `training_step`."""
        return self.training_step(batch)

    def validation_forward_step(self, batch: Any) -> Tensor | dict[str, Tensor]:
        """Return the output of an earlier pipeline stage; see `validation_step`."""
        return self.validation_step(batch)

    def sharded_state_dict(self, prefix: str = "", metadata: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the network's shards under `module.` and the average's under `ema.`; NeMo saves and loads these."""
        wrapped: Any = self._modules["module"]
        state: dict[str, Any] = wrapped.sharded_state_dict(prefix=prefix, metadata=metadata)
        return state | self.averaging.shards(self.network, state, prefix)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the averages out of what was loaded; NeMo hands the rest to the network."""
        self.averaging.take_from(self.network, checkpoint["state_dict"])

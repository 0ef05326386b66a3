"""What a family of models (diffusion, tokenizer, autoregressive) tells `train`: one base class, `FamilyModule`.

`train`, the checks before it, checkpoints, metrics and resuming know nothing else about a model. A family is one
LightningModule derived from `FamilyModule` in a file of its own, and a data module derived from
`lightning.data.EnergonDataModule`.

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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from cosmos_nemo import families
from cosmos_nemo.checkpoints.megatron import EMA_PREFIX, MODEL_PREFIX, sharded_average
from cosmos_nemo.data.manifest import Manifest
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.architecture import Architecture
from cosmos_nemo.families.family import Family
from cosmos_nemo.lightning.reduction import MeanOverGlobalBatch
from cosmos_nemo.lightning.throughput import Work
from cosmos_nemo.models.common.adapters import add_adapters
from cosmos_nemo.models.common.lora import LoRA
from cosmos_nemo.numerics.average import WeightAverage, power_ema_beta

if TYPE_CHECKING:
    from cosmos_nemo.lightning.data import EnergonDataModule

VALIDATION_STEP = -1
"""Takes the place of the training step in the keys of validation's random numbers: the same every time."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What lies at `data.path` or `data.val_path`.

    Attributes:
        field: the name of the setting, for messages.
        path: the folder.
        manifest: what `data_prep` wrote; None for a bare folder of tars.
        num_train: samples of the train split.
        num_val: samples of the val split.
    """

    field: str
    path: str
    manifest: Manifest | None
    num_train: int
    num_val: int


class FamilyModule(pl.LightningModule, abc.ABC):
    """A network with its training objective. All random numbers of a step are keyed by (seed, step, sample id).

    A subclass sets the class variables, gives `self.config` (a Megatron `TransformerConfig`: NeMo copies the parallel
    sizes and dtypes into it) and implements the abstract methods. `forward_step` is what it trains.

    What the network is, which parallelism it has and what data fits it is known to its family (`cosmos_nemo.families`),
    which its config names. With pipeline parallelism the network is this stage's part, with `pre_process`,
    `post_process`, `share_embeddings_and_output_weights` and `set_input_tensor`, and `work` must give `seq_length`.

    Class variables:
        weights_field: name of the constructor argument with the weights to start from, for messages.

    Args:
        seed: of everything random in training.
        ema_decay: keep a moving average of the trained weights, average <- decay average + (1 - decay) weight, in fp32.
        ema_rate: the same with the power function of `diffusion.ema`, whose memory grows with the run; 0.1 upstream.
        lora: train adapters of this kind instead of the network; None trains the network.
    """

    weights_field: ClassVar[str]

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
        self.ema_decay = ema_decay
        self.ema_rate = ema_rate
        self.lora = lora
        self.resuming = False  # set by `train` when the weights come from a checkpoint of the run
        self.optim: Any = None  # set by the optimizer module
        self._average: WeightAverage | None = None
        # Kept out of the module tree: it refers back to this module.
        self.__dict__["_reduction"] = MeanOverGlobalBatch(self)

    # What a family says about itself.

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

    def settings(self) -> dict[str, Mapping[str, Any]]:
        """Fields of the `RunRecord` that only the family knows, such as `objective`, and `lora`."""
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
    def load_weights(self, network: nn.Module) -> str:
        """Load `weights_path`, which is set, into the network; returns what was loaded, for people.

        Raises:
            UserError: as `check_weights`.
        """

    def build_network(self, *, initialize: bool) -> nn.Module:
        """Make this rank's part of the network; the model-parallel groups exist.

        Args:
            initialize: False when every weight is about to be overwritten.
        """
        return self.family.build(self.network_config, seed=self.seed if initialize else None)

    def adapt(self, network: nn.Module) -> nn.Module:
        """Change what is trained; see the top of this file. Returns the network."""
        if self.lora is not None:
            network.requires_grad_(False)
            add_adapters(network, self.lora, seed=self.seed)
        return network

    @abc.abstractmethod
    def check_data(self, dataset: Dataset, data: EnergonDataModule) -> None:
        """Compare a data set with the network.

        Raises:
            UserError: it was made for another network.
        """

    @abc.abstractmethod
    def recorded_data(self, dataset: Dataset, data: EnergonDataModule) -> dict[str, Any]:
        """Fields of `RunData`, besides the path: what generating and exporting must know about the training data."""

    @abc.abstractmethod
    def describe_data(self, dataset: Dataset, data: EnergonDataModule) -> str:
        """A sample in a few words: its frames and size."""

    def notes(self, dataset: Dataset) -> list[str]:
        """Lines for people before training starts: settings that are legal and may be meant otherwise."""
        if self.lora is None:
            return []
        blocks = "" if self.lora.blocks is None else f" of the first {self.lora.blocks} blocks"
        return [
            f"adapters of rank {self.lora.rank} on {', '.join(self.lora.targets)}{blocks}; the network itself is frozen"
        ]

    @abc.abstractmethod
    def work(self, dataset: Dataset, data: EnergonDataModule, *, num_devices: int, bf16: bool) -> Work:
        """What one optimizer step has to do, over all processes."""

    @abc.abstractmethod
    def next_commands(self, run: str) -> list[str]:
        """What a user types next.

        Args:
            run: the run folder, quoted for a shell.
        """

    @abc.abstractmethod
    def forward_step(self, batch: Any, step: int) -> Tensor | dict[str, Tensor]:
        """The loss of one micro batch with the random numbers of `step`.

        Args:
            batch: what the data module's loader makes; has `to`, `keys` and `sample_id_B`.
            step: optimizer step, or `VALIDATION_STEP`.

        Returns:
            scalar, float32, the mean over the micro batch; or a dictionary with it as "loss" and further scalars, which
            are averaged alike and written beside it. On pipeline stages but the last one: the stage's output.
        """

    def finish_validation(self, run_dir: Path, step: int) -> dict[str, Any]:
        """Called on every rank when a validation ends: further numbers, and paths of pictures, for its row."""
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
        """Builds the network once the model-parallel groups exist, and loads the weights to start from."""
        if "module" in self._modules:
            return
        loads = not self.resuming and bool(self.weights_path)
        network = self.build_network(initialize=not (self.resuming or loads))
        source = self.load_weights(network) if loads else f"random weights, seed {self.init_seed}"
        self.module = self.adapt(network)
        if not self.resuming and torch.distributed.get_rank() == 0:
            print(f"weights      {source}", flush=True)

    @property
    def init_seed(self) -> int:
        """Of random weights."""
        return getattr(self.config, "init_seed", self.seed)

    @property
    def network(self) -> Any:
        """The network inside the wrappers of data parallelism and of bf16."""
        network = self._modules["module"]
        while hasattr(network, "module"):
            network = network.module
        return network

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The network's output."""
        return self.module(*args, **kwargs)

    def data_step(self, dataloader_iter: Iterator[Any]) -> Any:
        """Takes the next micro batch and moves it to the device of the weights."""
        item = next(dataloader_iter)
        batch = item[0] if isinstance(item, tuple) else item
        return batch.to(next(self.parameters()).device, non_blocking=True)

    def training_step(self, batch: Any, batch_idx: int | None = None) -> Tensor | dict[str, Tensor]:
        """The loss of one micro batch at the current optimizer step."""
        return self.forward_step(batch, self.trainer.global_step)

    def validation_step(self, batch: Any, batch_idx: int | None = None) -> Tensor | dict[str, Tensor]:
        """The loss of one validation batch with random numbers that are the same at every validation."""
        return self.forward_step(batch, VALIDATION_STEP)

    # NeMo looks for these names on pipeline stages but the last.

    def training_forward_step(self, batch: Any) -> Tensor | dict[str, Tensor]:
        """The output of an earlier pipeline stage; see `training_step`."""
        return self.training_step(batch)

    def validation_forward_step(self, batch: Any) -> Tensor | dict[str, Tensor]:
        """The output of an earlier pipeline stage; see `validation_step`."""
        return self.validation_step(batch)

    # The moving average: of this rank's shards, beside the parameters in the checkpoint.

    def ema_beta(self) -> Callable[[int], float] | None:
        """How much of the old average survives the 0-based step just made; None without an average.

        Raises:
            UserError: a value that makes no sense, or both kinds.
        """
        if self.ema_decay is not None and self.ema_rate is not None:
            raise UserError("model.ema_decay and model.ema_rate are both set; set one of them to None.")
        if self.ema_decay is not None:
            if not 0.0 < self.ema_decay < 1.0:
                raise UserError(f"model.ema_decay={self.ema_decay}; use a value between 0 and 1, such as 0.9999.")
            return partial(_constant, self.ema_decay)
        if self.ema_rate is not None:
            power_ema_beta(1, rate=self.ema_rate)  # refuses rates that make no sense
            return partial(power_ema_beta, rate=self.ema_rate)
        return None

    @property
    def average(self) -> WeightAverage | None:
        """The average of the parameters that are trained; made at the first call, after the network is wrapped."""
        beta = self.ema_beta()
        if self._average is None and beta is not None:
            self._average = WeightAverage(self._trained(), beta)
        return self._average

    def update_average(self, step: int) -> None:
        """Take the weights after the 0-based optimizer step `step` into the average, if there is one."""
        if self.average is not None:
            self.average.update(self._trained(), step)

    def _trained(self) -> dict[str, Tensor]:
        found = {}
        for name, parameter in self._modules["module"].named_parameters():
            if parameter.requires_grad:
                # The wrappers of data parallelism and of bf16 are modules with the network in a field `module`.
                while name.startswith(MODEL_PREFIX):
                    name = name.removeprefix(MODEL_PREFIX)
                found[name] = parameter
        return found

    def sharded_state_dict(self, prefix: str = "", metadata: dict[str, Any] | None = None) -> dict[str, Any]:
        """The network's shards under `module.` and those of the average under `ema.`; NeMo saves and loads these."""
        state = self._modules["module"].sharded_state_dict(prefix=prefix, metadata=metadata)
        if self.average is None:
            return state
        averages = self.average.averages
        return state | {
            EMA_PREFIX + name: sharded_average(state[prefix + MODEL_PREFIX + name], tensor)
            for name, tensor in averages.items()
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the averages out of what was loaded; NeMo hands the rest to the network."""
        state = checkpoint["state_dict"]
        if self.average is not None:
            for name, tensor in self.average.averages.items():
                tensor.copy_(state.pop(EMA_PREFIX + name))


def _constant(value: float, step: int) -> float:
    return value

"""The moving average of the weights: of this rank's shards, beside the parameters in the checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import lightning.pytorch as pl
from torch import Tensor, nn

from cosmos_nemo.checkpoints.megatron import EMA_PREFIX, MODEL_PREFIX, sharded_average
from cosmos_nemo.errors import UserError
from cosmos_nemo.numerics.average import WeightAverage, power_ema_beta


class Averaging:
    """An average of the parameters that are trained, or none.

    Args:
        decay: average <- decay average + (1 - decay) weight, in fp32; None for no such average.
        rate: the same with the power function of `numerics.average`, whose memory grows with the run.

    Raises:
        UserError: a value that makes no sense, or both kinds.
    """

    def __init__(self, decay: float | None, rate: float | None) -> None:
        self.decay = decay
        self.rate = rate
        self._beta = _beta(decay, rate)
        self._average: WeightAverage | None = None

    def __bool__(self) -> bool:
        """Whether there is an average."""
        return self._beta is not None

    def to_json(self) -> dict[str, Any] | None:
        """Return what run.json says about it."""
        return {"decay": self.decay, "rate": self.rate} if self else None

    def words(self) -> str:
        """Return what it is, for people."""
        kind = f"decay {self.decay}" if self.decay is not None else f"power function, rate {self.rate}"
        return f"of the weights beside them ({kind}); take it with --ema"

    def of(self, network: nn.Module) -> WeightAverage | None:
        """Return the average of a network's trained parameters; made at the first call."""
        if self._average is None and self._beta is not None:
            self._average = WeightAverage(_trained(network), self._beta)
        return self._average

    def update(self, network: nn.Module, step: int) -> None:
        """Take the weights after the 0-based optimizer step `step` into the average, if there is one."""
        average = self.of(network)
        if average is not None:
            average.update(_trained(network), step)

    def shards(self, network: nn.Module, state: dict[str, Any], prefix: str) -> dict[str, Any]:
        """The shards of the average under `ema.`, cut as those of the network in `state` are."""
        average = self.of(network)
        named = average.averages.items() if average is not None else ()
        return {EMA_PREFIX + name: sharded_average(state[prefix + MODEL_PREFIX + name], value) for name, value in named}

    def take_from(self, network: nn.Module, state: dict[str, Any]) -> None:
        """Move the averages out of what was loaded; the rest is for the network."""
        average = self.of(network)
        for name, tensor in average.averages.items() if average is not None else ():
            tensor.copy_(state.pop(EMA_PREFIX + name))


def _trained(network: nn.Module) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            # The wrappers of data parallelism and of bf16 are modules with the network in a field `module`.
            while name.startswith(MODEL_PREFIX):
                name = name.removeprefix(MODEL_PREFIX)
            found[name] = parameter
    return found


def _beta(decay: float | None, rate: float | None) -> Callable[[int], float] | None:
    """Return how much of the old average survives the 0-based step just made."""
    if decay is not None and rate is not None:
        raise UserError("model.ema_decay and model.ema_rate are both set; set one of them to None.")
    if rate is not None:
        power_ema_beta(1, rate=rate)  # refuses rates that make no sense
        return partial(power_ema_beta, rate=rate)
    if decay is not None and not 0.0 < decay < 1.0:
        raise UserError(f"model.ema_decay={decay}; use a value between 0 and 1, such as 0.9999.")
    return None if decay is None else partial(_constant, decay)


def _constant(value: float, step: int) -> float:
    return value


class UpdateAverage(pl.Callback):
    """Takes the new weights into the module's average after every optimizer step, before a checkpoint is written."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Start the average, of a new run, from the weights the run starts from."""
        pl_module.averaging.of(pl_module.network)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        """Update the average."""
        strategy: Any = trainer.strategy
        if pl_module.averaging and getattr(strategy.ddp_config, "overlap_param_gather", False):
            strategy.megatron_parallel.force_param_sync()  # else other ranks' new weights come with the next forward
        pl_module.averaging.update(pl_module.network, trainer.global_step - 1)

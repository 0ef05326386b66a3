"""Optimizer and learning-rate schedule of the published recipes."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

from megatron.core.optimizer import OptimizerConfig
from nemo.lightning.pytorch.optim import LRSchedulerModule, MegatronOptimizerModule
from torch.optim.lr_scheduler import LambdaLR

from cosmos_nemo.errors import UserError
from cosmos_nemo.numerics.schedule import lambdalinear, warmup_cosine


class Schedule(LRSchedulerModule, abc.ABC):
    """A learning rate as a multiple of `optim.config.lr`, a function of the completed optimizer steps.

    Attributes:
        max_steps: length of the run; copied from the trainer by MegatronStrategy, and by `check_schedule`.
    """

    max_steps: int | None = None

    @abc.abstractmethod
    def multiplier(self, step: int) -> float:
        """The factor on the learning rate after `step` completed optimizer steps."""

    @abc.abstractmethod
    def refuse(self, max_steps: int) -> None:
        """Check the schedule against the length of the run.

        Raises:
            UserError: warm-up does not end within the run, or the schedule ends before it.
        """

    @abc.abstractmethod
    def corners(self, max_steps: int) -> set[int]:
        """Steps among which is every maximum of the multiplier."""

    def scheduler(self, model: Any, optimizers: Any) -> dict[str, Any]:
        """What Lightning steps after every optimizer step."""
        schedule = ConfiguredLambdaLR(optimizers, lr_lambda=lambda step: self.multiplier(step))
        return {"optimizer": optimizers, "lr_scheduler": {"scheduler": schedule, "interval": "step", "frequency": 1}}


class LambdaLinear(Schedule):
    """Predict2's schedule: linear warm-up, then linear decay, in cycles. See `diffusion.schedule.lambdalinear`.

    Args:
        warm_up_steps: per cycle, steps of warm-up.
        cycle_lengths: per cycle, steps in all; None is one cycle as long as the run.
        f_start: per cycle, multiplier of the learning rate at the start.
        f_max: per cycle, multiplier after warm-up.
        f_min: per cycle, multiplier at the end.
    """

    def __init__(
        self,
        warm_up_steps: Sequence[int] = (0,),
        cycle_lengths: Sequence[int] | None = None,
        f_start: Sequence[float] = (1e-6,),
        f_max: Sequence[float] = (1.0,),
        f_min: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__()
        self.warm_up_steps = warm_up_steps
        self.cycle_lengths = cycle_lengths
        self.f_start = f_start
        self.f_max = f_max
        self.f_min = f_min

    def multiplier(self, step: int) -> float:
        """The factor on the learning rate after `step` completed optimizer steps."""
        lengths = self.cycle_lengths
        if lengths is None:
            # The scheduler is asked once at construction, before a max_steps below 1 could be refused.
            lengths = [max(int(self.max_steps or 1), 1)]
        return lambdalinear(
            step,
            warm_up_steps=self.warm_up_steps,
            cycle_lengths=lengths,
            f_start=self.f_start,
            f_max=self.f_max,
            f_min=self.f_min,
        )

    def refuse(self, max_steps: int) -> None:
        """See `Schedule`."""
        refuse_warm_up(self.warm_up_steps[0], max_steps, list(self.warm_up_steps))
        if self.cycle_lengths is not None and sum(self.cycle_lengths) < max_steps:
            raise UserError(
                f"optim.lr_scheduler.cycle_lengths={list(self.cycle_lengths)} ends before trainer.max_steps="
                f"{max_steps}; lengthen it, or set optim.lr_scheduler.cycle_lengths=None to make it as long as the run."
            )

    def corners(self, max_steps: int) -> set[int]:
        """Ends of warm-ups and starts of cycles: the function is piecewise linear."""
        corners, start = {self.warm_up_steps[0]}, 0
        for length, warm in zip(self.cycle_lengths or [max_steps], self.warm_up_steps, strict=False):
            corners |= {start + 1, start + warm}
            start += length
        return corners


class WarmupCosine(Schedule):
    """Predict1's schedule: linear warm-up from 0, then half a cosine. See `diffusion.schedule.warmup_cosine`.

    Args:
        warm_up_steps: steps of warm-up.
        decay_steps: steps until the end of the cosine, warm-up included; None is the length of the run.
        min_factor: multiplier of the learning rate at the end.
    """

    def __init__(self, warm_up_steps: int = 0, decay_steps: int | None = None, min_factor: float = 0.0) -> None:
        super().__init__()
        self.warm_up_steps = warm_up_steps
        self.decay_steps = decay_steps
        self.min_factor = min_factor

    def multiplier(self, step: int) -> float:
        """The factor on the learning rate after `step` completed optimizer steps."""
        # The scheduler is asked once at construction, before a max_steps below 1 could be refused.
        decay = self.decay_steps or max(int(self.max_steps or 1), self.warm_up_steps + 1)
        return warmup_cosine(step, warm_up_steps=self.warm_up_steps, decay_steps=decay, lr=1.0, min_lr=self.min_factor)

    def refuse(self, max_steps: int) -> None:
        """See `Schedule`."""
        refuse_warm_up(self.warm_up_steps, max_steps, self.warm_up_steps)
        if self.decay_steps is not None and self.decay_steps <= self.warm_up_steps:
            raise UserError(
                f"optim.lr_scheduler.decay_steps={self.decay_steps} ends within warm_up_steps={self.warm_up_steps}; "
                "lengthen it, or set it to None to make it as long as the run."
            )

    def corners(self, max_steps: int) -> set[int]:
        """The end of the warm-up."""
        return {self.warm_up_steps}


def refuse_warm_up(steps: int, max_steps: int, words: Any) -> None:
    """Raise if a warm-up does not end within the run.

    Raises:
        UserError: `words` is the setting's value.
    """
    if steps >= max_steps:
        raise UserError(
            f"optim.lr_scheduler.warm_up_steps={words} does not end within trainer.max_steps={max_steps}, so the "
            "learning rate never gets to its peak; shorten the warm-up."
        )


class ConfiguredLambdaLR(LambdaLR):
    """A `LambdaLR` that takes from a checkpoint how far it got, and everything else from its configuration.

    torch's own would bring back the learning rate of the checkpoint, so that lowering it for a resumed run, which is
    what one does after a loss has exploded, would have no effect.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes to the saved step."""
        self.last_epoch = state_dict["last_epoch"]
        self._step_count = state_dict["_step_count"]
        lambdas = zip(self.base_lrs, self.lr_lambdas, strict=True)
        self._last_lr = [base * factor(self.last_epoch) for base, factor in lambdas]
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr


class UniformDecayOptimizer(MegatronOptimizerModule):
    """Megatron's optimizer with one parameter group: weight decay acts on every tensor, norms included.

    Megatron by default exempts one-dimensional tensors; the published models were trained without that exemption.

    Args:
        config: Megatron's settings: lr, weight_decay, adam_beta1, adam_beta2, adam_eps, clip_grad, ...
        lr_scheduler: the schedule.
    """

    def __init__(self, config: OptimizerConfig, lr_scheduler: LRSchedulerModule | None = None) -> None:
        super().__init__(config=config, lr_scheduler=lr_scheduler, no_weight_decay_cond=never)


def never(name: str, parameter: Any) -> bool:
    """No parameter is exempt from weight decay."""
    return False


def check_schedule(optim: MegatronOptimizerModule, max_steps: int) -> str:
    """Checks the learning rate over the whole run, before anything is built.

    Returns:
        the learning rate at start, peak and end, for people.

    Raises:
        UserError: the learning rate is 0, or warm-up does not end within the run, or the schedule ends before it.
    """
    lr, schedule = optim.config.lr, optim.lr_scheduler
    if not lr or lr < 0:
        raise UserError(f"optim.config.lr={lr}: nothing would be learned; set it above 0.")
    if not isinstance(schedule, Schedule):
        return f"{lr:.3g}"
    schedule.max_steps = max_steps
    schedule.refuse(max_steps)
    corners = {0, max_steps - 1} | schedule.corners(max_steps)
    peak = max(schedule.multiplier(step) for step in corners if step < max_steps)
    if peak <= 0:
        raise UserError("optim.lr_scheduler: the learning rate is 0 throughout the run; set its factors above 0.")
    first, last = schedule.multiplier(0), schedule.multiplier(max_steps - 1)
    return f"{lr * first:.3g} at the first step, {lr * peak:.3g} at its peak, {lr * last:.3g} at the last"

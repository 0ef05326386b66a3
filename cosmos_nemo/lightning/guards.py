"""Guards: what stops a run that is wrong, at its start or at any step, before a checkpoint takes it over."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from megatron.core import parallel_state
from torch import Tensor
from torch.distributed import ProcessGroup

from cosmos_nemo.errors import UserError
from cosmos_nemo.lightning.reduction import from_last_stage

PATIENCE = 10
"""Steps within which a trained parameter must move: at the start of a warm-up the first change may be rounded away."""

CHUNK = 1 << 20
"""Elements that a fingerprint holds in float64 at a time."""


class FiniteGradient(pl.Callback):
    """Stops a run whose gradient is not finite: its weights are spoilt, those of the last checkpoint are not."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Look at the norm of the step just made, which every rank knows.

        Raises:
            UserError: it is not finite.
        """
        norm = trainer.callback_metrics.get("grad_norm")
        if norm is not None and not math.isfinite(float(norm)):
            loss = from_last_stage({"loss": outputs["loss"]})["loss"]
            raise UserError(
                f"the gradient of step {trainer.global_step} is not finite (loss {loss:g}); the last checkpoint is "
                "good: resume with a lower optim.config.lr."
            )


class StartCheck(pl.Callback):
    """Prints the number of parameters, and checks in the first steps that training does what it should.

    Replicas that drift apart, because gradients were not summed, train without any other sign; so does a network whose
    trained part (adapters, say) gets no gradient, or was left out of the optimizer.

    Args:
        say: prints one line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self._steps = 0
        self._start: Tensor | None = None  # fingerprint of the trained parameters, until they have moved

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the number of parameters.

        Raises:
            UserError: none of them is trained.
        """
        total, trained = _count(pl_module)
        if not trained:
            raise UserError("no parameter of the model is trained: everything is frozen.")
        if trainer.is_global_zero:
            self.say(f"parameters   {total:,}" + ("" if trained == total else f", {trained:,} of them trained"))
        self._start = fingerprint(pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Compare replicas, once, and look whether the parameters move.

        Raises:
            UserError: replicas differ, the gradient is zero, or nothing has changed after some steps.
        """
        if self._start is None:
            return
        mine = fingerprint(pl_module)
        self._steps += 1
        if self._steps == 1:
            _compare_replicas(mine)
            _refuse_zero_gradient(trainer.callback_metrics)
        if _any_rank_differs(mine, self._start):
            self._start = None
        elif self._steps >= PATIENCE:
            raise UserError(
                f"no trained parameter has changed in {PATIENCE} steps: the optimizer does not hold them, or "
                "optim.config.lr is too small for the parameters' precision."
            )


def fingerprint(module: torch.nn.Module) -> Tensor:
    """One number per trained parameter: the sum of its running sums, so that it is sensitive to order.

    Every seventh element takes part. Equal bytes give equal sums. Shape [parameters], float64.
    """
    trained = [_sum_of_running_sums(p.detach().flatten()[::7]) for p in module.parameters() if p.requires_grad]
    device = next(module.parameters()).device
    return torch.stack(trained) if trained else torch.zeros(0, dtype=torch.float64, device=device)


def _sum_of_running_sums(values: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.float64, device=values.device)
    before = total
    for chunk in values.split(CHUNK):
        sums = before + chunk.double().cumsum(0)
        total, before = total + sums.sum(), sums[-1]
    return total


def replica_group() -> ProcessGroup:
    """The ranks that hold the same parameters: those with other samples or another part of the tokens.

    They are all of the data- and context-parallel ranks, because no wrapper shards parameters over them.
    """
    return parallel_state.get_data_parallel_group(with_context_parallel=True)


def _compare_replicas(mine: Tensor) -> None:
    group = replica_group()
    everyone = [torch.empty_like(mine) for _ in range(group.size())]
    torch.distributed.all_gather(everyone, mine, group=group)
    if any(not torch.equal(other, everyone[0]) for other in everyone):
        raise UserError(
            "after the first step the data-parallel replicas hold different weights: gradients are not being "
            "synchronised. Check trainer.strategy and its ddp settings."
        )


def _refuse_zero_gradient(metrics: Mapping[str, Any]) -> None:
    norm = metrics.get("grad_norm")
    if norm is not None and float(norm) == 0.0:
        raise UserError(
            "the gradient of the first step is zero: no trained parameter takes part in the loss. If a part of "
            "the network is frozen, the input of every recomputed layer must still require a gradient."
        )


def _any_rank_differs(mine: Tensor, start: Tensor) -> bool:
    flag = torch.tensor([int(not torch.equal(mine, start))], device=mine.device)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
    return bool(flag.item())


def _count(module: torch.nn.Module) -> tuple[int, int]:
    """All parameters of the whole network, and those that are trained."""
    tensor = parallel_state.get_tensor_model_parallel_world_size()
    total = trained = 0
    for parameter in module.parameters():
        count = parameter.numel() * (tensor if getattr(parameter, "tensor_model_parallel", False) else 1)
        total += count
        trained += count if parameter.requires_grad else 0
    if parallel_state.get_pipeline_model_parallel_world_size() == 1:
        return total, trained
    counts = torch.tensor([total, trained], device=next(module.parameters()).device)
    torch.distributed.all_reduce(counts, group=parallel_state.get_pipeline_model_parallel_group())
    return int(counts[0]), int(counts[1])

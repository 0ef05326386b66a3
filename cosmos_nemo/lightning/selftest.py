"""Checks that cost nothing against a run that is wrong from the start."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from megatron.core import parallel_state

from cosmos_nemo.errors import UserError

PATIENCE = 10
"""Steps within which a trained parameter must move: at the start of a warm-up the first change may be rounded away."""


class StartCheck(pl.Callback):
    """Prints the number of parameters, and checks in the first steps that training does what it should.

    Replicas that drift apart, because gradients were not summed, train without any other sign; so does a network whose
    trained part (adapters, say) gets no gradient, or was left out of the optimizer.

    Args:
        say: prints one line.
    """

    def __init__(self, say: Any) -> None:
        self.say = say
        self._steps = 0
        self._start: torch.Tensor | None = None  # fingerprint of the trained parameters, until they have moved

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prints the number of parameters.

        Raises:
            UserError: none of them is trained.
        """
        total, trained = _count(pl_module)
        if not trained:
            raise UserError("no parameter of the model is trained: everything is frozen.")
        if trainer.is_global_zero:
            self.say(f"parameters   {total:,}" + ("" if trained == total else f", {trained:,} of them trained"))
        self._start = _fingerprint(pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Compares replicas, once, and looks whether the parameters move.

        Raises:
            UserError: replicas differ, the gradient is zero, or nothing has changed after some steps.
        """
        if self._start is None:
            return
        mine = _fingerprint(pl_module)
        self._steps += 1
        if self._steps == 1:
            _compare_replicas(mine)
            norm = trainer.callback_metrics.get("grad_norm")
            if norm is not None and float(norm) == 0.0:
                raise UserError(
                    "the gradient of the first step is zero: no trained parameter takes part in the loss. If a part of "
                    "the network is frozen, the input of every recomputed layer must still require a gradient."
                )
        if _any_rank_differs(mine, self._start):
            self._start = None
        elif self._steps >= PATIENCE:
            raise UserError(
                f"no trained parameter has changed in {PATIENCE} steps: the optimizer does not hold them, or "
                "optim.config.lr is too small for the parameters' precision."
            )


def _count(module: pl.LightningModule) -> tuple[int, int]:
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


def _fingerprint(module: pl.LightningModule) -> torch.Tensor:
    """One number per trained parameter. Equal bytes give equal sums; running sums make it sensitive to order."""
    trained = [p.detach().double().flatten()[::7].cumsum(0).sum() for p in module.parameters() if p.requires_grad]
    device = next(module.parameters()).device
    return torch.stack(trained) if trained else torch.zeros(0, dtype=torch.float64, device=device)


def _compare_replicas(mine: torch.Tensor) -> None:
    group = parallel_state.get_data_parallel_group(with_context_parallel=True)
    size = torch.distributed.get_world_size(group)
    if size == 1:
        return
    everyone = [torch.empty_like(mine) for _ in range(size)]
    torch.distributed.all_gather(everyone, mine, group=group)
    if any(not torch.equal(other, everyone[0]) for other in everyone):
        raise UserError(
            "after the first step the data-parallel replicas hold different weights: gradients are not being "
            "synchronised. Check trainer.strategy and its ddp settings."
        )


def _any_rank_differs(mine: torch.Tensor, start: torch.Tensor) -> bool:
    flag = torch.tensor([int(not torch.equal(mine, start))], device=mine.device)
    if torch.distributed.get_world_size() > 1:
        torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
    return bool(flag.item())

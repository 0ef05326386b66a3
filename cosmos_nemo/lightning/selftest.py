"""Checks that cost nothing against a run that is wrong from the start."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from megatron.core import parallel_state

from cosmos_nemo.errors import UserError


class StartCheck(pl.Callback):
    """Prints the number of parameters, and checks after the first step that data-parallel replicas still agree.

    Replicas that drift apart, because gradients were not summed, train without any other sign.

    Args:
        say: prints one line.
    """

    def __init__(self, say: Any) -> None:
        self.say = say
        self._done = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prints the number of parameters.

        Raises:
            UserError: none of them is trained.
        """
        tensor = parallel_state.get_tensor_model_parallel_world_size()
        total = trained = 0
        for parameter in pl_module.parameters():
            count = parameter.numel() * (tensor if getattr(parameter, "tensor_model_parallel", False) else 1)
            total += count
            trained += count if parameter.requires_grad else 0
        if not trained:
            raise UserError("no parameter of the model is trained: everything is frozen.")
        if trainer.is_global_zero:
            self.say(f"parameters   {total:,}" + ("" if trained == total else f", {trained:,} of them trained"))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Compares replicas, once.

        Raises:
            UserError: they differ.
        """
        if self._done:
            return
        self._done = True
        group = parallel_state.get_data_parallel_group(with_context_parallel=True)
        size = torch.distributed.get_world_size(group)
        if size == 1:
            return
        # Equal bytes give equal sums; the weights make it sensitive to a change of order as well.
        sums = [p.detach().double().flatten()[::7].cumsum(0).sum() for p in pl_module.parameters()]
        mine = torch.stack(sums)
        everyone = [torch.empty_like(mine) for _ in range(size)]
        torch.distributed.all_gather(everyone, mine, group=group)
        if any(not torch.equal(other, everyone[0]) for other in everyone):
            raise UserError(
                "after the first step the data-parallel replicas hold different weights: gradients are not being "
                "synchronised. Check trainer.strategy and its ddp settings."
            )

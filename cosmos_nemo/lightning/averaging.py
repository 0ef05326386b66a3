"""Keeps the moving average of the weights up to date."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl


class UpdateAverage(pl.Callback):
    """Takes the new weights into the module's average after every optimizer step, before a checkpoint is written."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Starts the average, of a new run, from the weights the run starts from."""
        _ = pl_module.average

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        """Updates the average."""
        strategy: Any = trainer.strategy
        if pl_module.average is not None and getattr(strategy.ddp_config, "overlap_param_gather", False):
            strategy.megatron_parallel.force_param_sync()  # else other ranks' new weights come with the next forward
        pl_module.update_average(trainer.global_step - 1)

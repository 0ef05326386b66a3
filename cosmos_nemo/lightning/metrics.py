"""Makes the row of numbers of each optimizer step, for metrics.jsonl and whoever else wants them."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from megatron.core import parallel_state

from cosmos_nemo.lightning.reduction import from_last_stage
from cosmos_nemo.lightning.throughput import Work
from cosmos_nemo.runs.metrics import Row

Sink = Callable[[Row], None]


class StepMetrics(pl.Callback):
    """Makes the row of each step and gives it to the sinks on rank 0.

    Args:
        work: what a step has to do.
        sinks: called with each row on rank 0.
        run_dir: where a family may write what it makes in validation.
    """

    def __init__(self, work: Work, sinks: Sequence[Sink], run_dir: Path) -> None:
        self.work = work
        self.sinks = sinks
        self.run_dir = run_dir
        self._started: float | None = None
        self._lr = 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Note the time and the learning rate that this step will use."""
        if self._started is None and torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()  # loading and the checks at the start are no part of training
        self._started = time.perf_counter()
        self._lr = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Make the row."""
        assert self._started is not None, "a batch that ends has begun"
        terms = from_last_stage({"loss": outputs["loss"], **pl_module.training_loss_reduction.terms})
        loss = terms.pop("loss")
        seconds = time.perf_counter() - self._started
        shared = gather_ranks(trainer)
        grad_norm = trainer.callback_metrics.get("grad_norm")
        row = {
            "step": trainer.global_step,
            "loss": loss,
            **terms,
            "lr": self._lr,
            "grad_norm": None if grad_norm is None else float(grad_norm),
            "seconds_per_step": seconds,
            **self.work.rates(seconds),
            **shared,
            "consumed_samples": trainer.datamodule.consumed_samples(trainer.global_step),
        }
        self._emit(trainer, row)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forgets the losses of the last validation."""
        self._val_losses: list[dict[str, float]] = []

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Note the loss of one batch, which is already the mean over ranks."""
        self._val_losses.append(from_last_stage({"loss": outputs, **pl_module.validation_loss_reduction.terms}))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Makes a row with the mean validation loss, and what the family adds to it."""
        if self._val_losses:
            names = self._val_losses[0]
            count = len(self._val_losses)
            means = {f"val_{name}": sum(terms[name] for terms in self._val_losses) / count for name in names}
            extra = pl_module.finish_validation(self.run_dir, trainer.global_step)
            self._emit(trainer, {"step": trainer.global_step, **means, **extra})

    def _emit(self, trainer: pl.Trainer, row: Row) -> None:
        if trainer.is_global_zero:
            for sink in self.sinks:
                sink(row)


def gather_ranks(trainer: Any) -> Row:
    """Numbers that every rank has its own value of: the longest data wait, all skipped samples, the largest memory."""
    data = trainer.datamodule
    # Ranks that share their data would count the same skipped sample again.
    ranks = (
        parallel_state.get_tensor_model_parallel_rank(),
        parallel_state.get_context_parallel_rank(),
        parallel_state.get_pipeline_model_parallel_rank(),
    )
    first = not any(ranks)
    mine = [data.stream.take_wait_seconds(), float(data.skipped.count if first else 0), peak_memory_gib()]
    rows = [mine]
    if torch.distributed.get_world_size() > 1:
        value = torch.tensor(mine, dtype=torch.float64, device=trainer.strategy.root_device)
        everyone = [torch.empty_like(value) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(everyone, value)
        rows = [tensor.tolist() for tensor in everyone]
    waits, skipped, memory = zip(*rows, strict=True)
    return {"data_wait_seconds": max(waits), "skipped_samples": int(sum(skipped)), "peak_memory_gib": max(memory)}


def peak_memory_gib() -> float:
    """Largest memory of this process so far: of the GPU where there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * (1 if os.uname().sysname == "Darwin" else 1024) / 2**30

"""The training job: every recipe is a `run.Partial` of `train`."""

from __future__ import annotations

import atexit
import gc
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosmos_nemo.errors import UserError
from cosmos_nemo.lightning import quiet
from cosmos_nemo.platform.install import install
from cosmos_nemo.runs.log import RunLog
from cosmos_nemo.runs.record import RunRecord
from cosmos_nemo.runs.start import Resume, Start, changed_settings, choose_start

if TYPE_CHECKING:
    import lightning.pytorch as pl
    from nemo.lightning.pytorch.optim import MegatronOptimizerModule

    from cosmos_nemo.lightning.data import EnergonDataModule
    from cosmos_nemo.lightning.module import CosmosModule

EXIT_TERMINATED = 128 + 15
"""Exit code after SIGTERM, by the shell's convention: the run is saved but not finished."""


def train(
    model: CosmosModule,
    data: EnergonDataModule,
    trainer: pl.Trainer,
    optim: MegatronOptimizerModule,
    log: RunLog,
    resume: Resume,
) -> None:
    """Trains a model, or continues to train it. The same call continues a run that was interrupted.

    Args:
        model: what is trained.
        data: what it is trained on.
        trainer: a NeMo trainer with a `MegatronStrategy`; `max_steps` counts optimizer steps over all restarts, and
            `max_epochs` passes over the data. The shorter one ends the run.
        optim: optimizer and schedule.
        log: where the run lies.
        resume: what it continues from.

    Raises:
        UserError: something is wrong that the user can put right; nothing has been written then, or the last
            checkpoint is good.
        SystemExit: with `EXIT_TERMINATED` after SIGTERM, once a checkpoint is written.
    """
    install(nemo=True)
    atexit.register(gc.freeze)  # the interpreter would look at a million objects on its way out, for two seconds
    from cosmos_nemo.lightning import preflight
    from cosmos_nemo.lightning.settings import check_settings
    from cosmos_nemo.lightning.throughput import Work

    check_settings({"trainer": trainer, "model.config": model.config})
    division = preflight.divide(trainer, data)
    preflight.check_parallelism(model, division.sizes)
    dataset = preflight.check_data(model, data)[0]
    steps = preflight.settle_steps(trainer, dataset, data)
    lr = preflight.check_schedule_of(optim, trainer)
    run = preflight.run_record(model, data, trainer, optim, log, dataset)
    start = choose_start(log.run_dir, resume, run)
    if start.checkpoint is None:
        model.check_weights()
    elif start.checkpoint.run is not None:
        preflight.check_adapters(start.checkpoint.run, run, weights_field=model.weights_field)
    sample = model.family.work(model.network_config, dataset)
    bf16 = "bf16" in str(trainer.precision)
    work = Work.of_batch(sample, data.global_batch_size, num_devices=division.processes, bf16=bf16)
    if division.sizes.pipeline_model_parallel_size > 1:
        data.data_sampler.seq_len = work.seq_length
    first_step = start.checkpoint.step if start.checkpoint else 0
    is_first_rank = int(os.environ.get("RANK", "0")) == 0
    if is_first_rank:
        plan = preflight.describe(division, model, data, dataset, work, lr=lr, steps=steps)
        _announce(log, start, run, plan)
    if first_step >= trainer.max_steps:
        if is_first_rank:
            print(f"nothing to do: the run ends after {trainer.max_steps} steps, which it has made", flush=True)
            _print_next_commands(log, model)
        return
    _fit(model, data, trainer, optim, log, start, work, run)
    if is_first_rank:
        _print_next_commands(log, model)


def _fit(model: Any, data: Any, trainer: Any, optim: Any, log: RunLog, start: Start, work: Any, run: RunRecord) -> None:
    """Puts the callbacks together and trains."""
    from cosmos_nemo.lightning.averaging import UpdateAverage
    from cosmos_nemo.lightning.checkpoint import CheckpointWriter
    from cosmos_nemo.lightning.guards import FiniteGradient, StartCheck
    from cosmos_nemo.lightning.metrics import StepMetrics
    from cosmos_nemo.lightning.progress import ProgressDisplay
    from cosmos_nemo.lightning.wandb_log import WandbLog
    from cosmos_nemo.runs.metrics import MetricsFile

    rank = int(os.environ.get("RANK", "0"))
    first_step = start.checkpoint.step if start.checkpoint else 0
    display = ProgressDisplay(trainer.max_steps, first_step=first_step, every_n_steps=trainer.log_every_n_steps)
    wandb = WandbLog(log, run.to_json()) if rank == 0 and log.wandb != "off" else None
    sinks: list[Any] = []
    if rank == 0:
        sinks = [MetricsFile(log.run_dir, resumed_step=first_step), display]
        sinks += [wandb] if wandb else []
    say = display.say if rank == 0 else _nothing
    writer = CheckpointWriter(
        log.run_dir, run, every_n_steps=log.save_every_n_steps, keep_last_k=log.keep_last_k, say=say
    )
    # In this order: what a guard refuses is in no row and no checkpoint, and what a checkpoint holds is complete.
    metrics = StepMetrics(work, sinks, log.run_dir)
    _settle(trainer, [FiniteGradient(), metrics, StartCheck(say), UpdateAverage(), writer])
    optim.connect(model)
    model.resuming = start.checkpoint is not None
    quiet.log_to_file(log.run_dir, rank)
    try:
        with _distributed(trainer):
            trainer.fit(model, datamodule=data, ckpt_path=str(start.checkpoint.path) if start.checkpoint else None)
    finally:
        display.close()
        if wandb:
            wandb.close()
    if writer.stopped and trainer.global_step < trainer.max_steps:
        if rank == 0:
            print(f"stopped by SIGTERM after step {trainer.global_step}; the same command continues", flush=True)
        sys.exit(EXIT_TERMINATED)


def _settle(trainer: Any, callbacks: list[Any]) -> None:
    """Replaces the trainer's own bookkeeping by ours, and its defaults by what checkpoints depend on.

    Nothing that was set is changed by it: `settings.check_settings` refuses other values.
    """
    import torch
    from lightning.pytorch.callbacks import Checkpoint, ModelSummary, ProgressBar

    replaced = (Checkpoint, ModelSummary, ProgressBar)
    trainer.callbacks = [*(c for c in trainer.callbacks if not isinstance(c, replaced)), *callbacks]
    trainer.loggers = []
    trainer.num_sanity_val_steps = 0
    strategy = trainer.strategy
    # The other optimizer format cannot be loaded with fp32 parameters, nor at another parallel size.
    strategy.ckpt_optim_fully_reshardable = True
    # A checkpoint is published by a rename, so its files must be complete when saving returns.
    strategy.async_save = False
    strategy.log_train_loss = False
    strategy.replace_progress_bar = False
    # The loss and the gradient norm are checked once per step instead, with the samples named.
    strategy.ddp_config.check_for_nan_in_grad = False
    if strategy.pipeline_dtype is None:  # what stages hand on, where no precision plugin says it
        strategy.pipeline_dtype = torch.float32


@contextmanager
def _distributed(trainer: Any) -> Iterator[None]:
    """The environment of a process group for a single process, and no leftovers of Megatron's global state after."""
    import torch

    if "RANK" not in os.environ:
        if trainer.num_devices * trainer.num_nodes > 1:
            raise UserError(
                f"{trainer.num_devices * trainer.num_nodes} processes are asked for and one was started; start the "
                "recipe with `torchrun --nproc-per-node N -m recipes NAME ...` or with run.executor=local."
            )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        single = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in single.items()})
    try:
        yield
    finally:
        from megatron.core import num_microbatches_calculator, parallel_state

        if torch.distributed.is_initialized() and sys.exc_info()[0] is None:
            torch.distributed.barrier()
            parallel_state.destroy_model_parallel()
            torch.distributed.destroy_process_group()
        num_microbatches_calculator.unset_num_microbatches_calculator()


def _announce(log: RunLog, start: Start, run: RunRecord, plan: str) -> None:
    print(f"run          {log.run_dir}")
    for warning in start.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"from         {start.message}")
    if start.checkpoint is not None and start.checkpoint.run is not None:
        for change in changed_settings(start.checkpoint.run, run):
            print(f"changed      {change}")
    print(plan, flush=True)


def _print_next_commands(log: RunLog, model: CosmosModule) -> None:
    run = os.path.relpath(log.run_dir) if log.run_dir.is_relative_to(Path.cwd()) else str(log.run_dir)
    for command in model.next_commands(shlex.quote(run)):
        print(f"next         {command}", flush=True)


def _nothing(line: str) -> None:
    pass

"""Writes checkpoints so that one is either complete or not there.

Order: all files into ``.tmp-iter_N``, flushed to disk; the manifest last; one rename to ``iter_N``; then
``latest_checkpoint.txt`` under a temporary name and renamed. A crash at any point leaves the older ones valid.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch.distributed.checkpoint.api import CheckpointException

from cosmos_nemo.errors import UserError
from cosmos_nemo.files import fsync, write_json, write_text
from cosmos_nemo.runs import layout
from cosmos_nemo.runs.record import RunRecord
from cosmos_nemo.runs.start import remove_debris


class CheckpointWriter(pl.Callback):
    """Saves every n optimizer steps, at the end, and on SIGTERM, after which training stops.

    Args:
        run_dir: the run folder.
        run: what run.json is to say, written once everything has been loaded.
        every_n_steps: optimizer steps between checkpoints.
        keep_last_k: complete checkpoints to keep; None keeps all.
        say: prints one line on rank 0.
    """

    def __init__(
        self,
        run_dir: Path,
        run: RunRecord,
        *,
        every_n_steps: int,
        keep_last_k: int | None,
        say: Callable[[str], None],
    ) -> None:
        self.run_dir = run_dir
        self.folder = run_dir / layout.CHECKPOINTS_DIR
        self.run = run
        self.every_n_steps = every_n_steps
        self.keep_last_k = keep_last_k
        self.say = say
        self.signalled = False
        self.stopped = False
        self.saved_step: int | None = None
        self._previous_handler: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes run.json and takes over SIGTERM; Lightning's own handling would stop without saving."""
        if trainer.is_global_zero:
            self.run.write(self.run_dir)
            remove_debris(self.run_dir)
            self._set_aside_later_than(trainer.global_step)
        self.saved_step = trainer.global_step
        self._previous_handler = signal.signal(signal.SIGTERM, self._on_signal)
        # A validation always starts with its first batch; Lightning would go on after those of the one before.
        trainer.fit_loop.epoch_loop.val_loop.batch_progress.current.reset()

    def _on_signal(self, number: int, frame: Any) -> None:
        self.signalled = True  # acted on at the end of the step, by all ranks together

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Saves if it is time to."""
        self.stopped = _any_rank(self.signalled, trainer.strategy.root_device)
        if self.stopped or trainer.global_step % self.every_n_steps == 0:
            self.save(trainer)
        if self.stopped:
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves the last step unless that was done, and gives SIGTERM back."""
        self.save(trainer)
        signal.signal(signal.SIGTERM, self._previous_handler or signal.SIG_DFL)

    def save(self, trainer: Any) -> None:
        """Writes the checkpoint of the current step, unless it exists.

        Raises:
            UserError: on all ranks, if it could not be written; the older checkpoints are untouched.
        """
        step = trainer.global_step
        if step == self.saved_step:
            return
        name = layout.iteration_name(step)
        temporary = self.folder / f".tmp-{name}"
        if trainer.is_global_zero:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        trainer.strategy.barrier("checkpoint folder")
        problem = None
        try:
            with _batch_counted_as_done(trainer):
                trainer.save_checkpoint(temporary)
            if trainer.is_global_zero:
                self._publish(temporary, name, step, trainer.datamodule.consumed_samples(step))
        except (OSError, RuntimeError, CheckpointException) as error:  # what writing on a full disk ends with
            problem = " ".join(str(getattr(error, "strerror", None) or error).split())
        if _any_rank(problem is not None, trainer.strategy.root_device):
            if trainer.is_global_zero:
                shutil.rmtree(temporary, ignore_errors=True)
            raise UserError(
                f"the checkpoint of step {step} could not be written to {self.folder}: "
                f"{problem or 'another rank failed'}. The older ones are untouched; make room and run the same command "
                "again."
            )
        self.saved_step = step
        self.say(f"checkpoint   {self.folder / name}")

    def _publish(self, temporary: Path, name: str, step: int, consumed_samples: int) -> None:
        for path in temporary.rglob("*"):
            fsync(path)
        manifest = layout.make_manifest(temporary, step=step, consumed_samples=consumed_samples)
        write_json(temporary / layout.MANIFEST_FILE, manifest)
        os.replace(temporary, self.folder / name)  # what had this name was set aside at the start
        fsync(self.folder)
        write_text(self.folder / layout.LATEST_FILE, name + "\n")
        self._delete_old()

    def _set_aside_later_than(self, step: int) -> None:
        """Renames checkpoints of steps this run has not reached: damaged ones, or a future that was turned back from.

        Left where they are, they would be taken for the newest of this run at its next start.
        """
        for path in sorted(self.folder.glob("iter_*")):
            if path.name > layout.iteration_name(step):
                target = self.folder / f"set-aside-{path.name}"
                shutil.rmtree(target, ignore_errors=True)
                os.replace(path, target)
                self.say(f"set aside    {path} as {target.name}: the run continues from step {step}")

    def _delete_old(self) -> None:
        if self.keep_last_k is None:
            return
        complete = sorted(p for p in self.folder.glob("iter_*") if (p / layout.MANIFEST_FILE).is_file())
        for path in complete[: -self.keep_last_k]:
            shutil.rmtree(path, ignore_errors=True)


class _batch_counted_as_done:  # noqa: N801  (used as a function)
    """Lightning counts a batch as completed only after the callbacks, so a resumed run would count it twice."""

    def __init__(self, trainer: Any) -> None:
        progress = trainer.fit_loop.epoch_loop.batch_progress
        behind = progress.current.processed - progress.current.completed
        self.counters = (progress.current, progress.total) if behind else ()

    def __enter__(self) -> None:
        for counter in self.counters:
            counter.completed += 1

    def __exit__(self, *exc: object) -> None:
        for counter in self.counters:
            counter.completed -= 1


def _any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any rank; every rank gets the same answer."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return flag
    value = torch.tensor([int(flag)], device=device)
    torch.distributed.all_reduce(value, op=torch.distributed.ReduceOp.MAX)
    return bool(value.item())

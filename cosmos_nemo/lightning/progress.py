"""What a person sees while a run trains: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cosmos_nemo.lightning.metrics import Row

SHOWN = {
    "val_psnr": ".2f",
    "val_ssim": ".4f",
    "val_code_entropy": ".2f",
    "val_dead_codes": "d",
    "val_rfvd": ".2f",
    "val_picture": "s",
}
"""What validation of a tokenizer adds to the loss, and how it is written."""


class ProgressDisplay:
    """Shows loss, gradient norm, learning rate and speed. A sink of `StepMetrics`, on rank 0 only.

    Args:
        max_steps: optimizer steps of the whole run.
        first_step: completed steps at the start.
        every_n_steps: steps between plain lines; the first and the last are always shown.
        console: where to write; standard output by default.
    """

    def __init__(
        self, max_steps: int, *, first_step: int = 0, every_n_steps: int = 10, console: Console | None = None
    ) -> None:
        self.max_steps = max_steps
        self.first_step = first_step
        self.every_n_steps = every_n_steps
        self.console = console or Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._task: Any = None

    def __call__(self, row: Row) -> None:
        """Shows one row."""
        text = describe(row)
        if not self.console.is_terminal:
            step = row["step"]
            if "val_loss" in row or step in (self.first_step + 1, self.max_steps) or step % self.every_n_steps == 0:
                self.say(f"step {step}/{self.max_steps}  {text}")
            return
        if "val_loss" in row:
            self.say(f"step {row['step']}  {text}")
            return
        self._bar = self._bar or self._start()
        self._bar.update(self._task, completed=row["step"], text=text)
        if row["step"] >= self.max_steps:
            self.close()

    def say(self, line: str) -> None:
        """Prints a line, above the bar if there is one."""
        self.console.print(line, markup=False)
        self.console.file.flush()

    def close(self) -> None:
        """Leaves the bar as it is and gives the terminal back."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _start(self) -> Progress:
        bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
        )
        self._task = bar.add_task("training", total=self.max_steps, completed=self.first_step, text="")
        bar.start()
        return bar


def describe(row: Row) -> str:
    """One row as words; numbers that are not known are left out."""
    if "val_loss" in row:
        more = {name.removeprefix("val_"): row[name] for name in SHOWN if name in row}
        words = (f"{name.replace('_', ' ')} {value:{SHOWN['val_' + name]}}" for name, value in more.items())
        return "  ".join([f"validation loss {row['val_loss']:.4f}", *words])
    parts = [f"loss {row['loss']:.4f}"]
    if row["grad_norm"] is not None:
        parts.append(f"grad {row['grad_norm']:.3f}")
    parts += [f"lr {row['lr']:.3g}", f"{row['seconds_per_step']:.2f} s/step"]
    if row["mfu"] is not None:
        parts.append(f"MFU {row['mfu']:.1%}")
    # Below five percent, or what a person would notice, the loader keeps up.
    if row["data_wait_seconds"] > max(0.05 * row["seconds_per_step"], 0.05):
        parts.append(f"waited {row['data_wait_seconds']:.2f} s for data")
    if row["skipped_samples"]:
        parts.append(f"{row['skipped_samples']} samples skipped")
    return "  ".join(parts)

"""metrics.jsonl: a row of numbers per optimizer step and per validation, written and read here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cosmos_nemo.errors import UserError
from cosmos_nemo.files import write_text

METRICS_FILE = "metrics.jsonl"

Row = dict[str, Any]
"""`step`, `loss` and its terms, `lr`, `grad_norm`, ...; of a validation `step` and names that begin with `val_`."""


class MetricsFile:
    """Appends rows to metrics.jsonl.

    Args:
        run_dir: The run's folder.
        resumed_step: Optimizer step the run continues from; rows after it are from a process that was killed, and
            would appear twice.
    """

    def __init__(self, run_dir: Path, *, resumed_step: int) -> None:
        self.path = run_dir / METRICS_FILE
        self.resumed_step = resumed_step
        self._begun = False

    def __call__(self, row: Row) -> None:
        """Append one row and hand it to the operating system, so that a killed process loses nothing."""
        if not self._begun and self.path.is_file():
            # Not before there is something to write: a run that is refused changes nothing.
            write_text(self.path, "".join(kept_lines(self.path.read_text(), self.resumed_step)))
        self._begun = True
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def kept_lines(text: str, resumed_step: int) -> list[str]:
    """Return the lines of a metrics file up to `resumed_step`; a half-written last line is dropped."""
    kept = []
    for line in text.splitlines(keepends=True):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        # Validation runs after the checkpoint of its step, so it will be repeated.
        limit = resumed_step - 1 if "val_loss" in row else resumed_step
        if row["step"] <= limit and line.endswith("\n"):
            kept.append(line)
    return kept


def read_metrics(run_dir: Path) -> list[Row]:
    """Return the rows of a run, in file order.

    Args:
        run_dir: The run's folder, or its `metrics.jsonl`.

    Raises:
        UserError: The file is missing, empty, or a line of it is not JSON.
    """
    path = run_dir if run_dir.suffix == ".jsonl" else run_dir / METRICS_FILE
    if not path.is_file():
        raise UserError(f"no metrics at {path}; give the folder of a training run (it holds {METRICS_FILE}).")
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {number} is not JSON ({error.msg}); delete that line to go on.") from None
    if not rows:
        raise UserError(f"{path} is empty; the run has not finished a step yet.")
    return rows

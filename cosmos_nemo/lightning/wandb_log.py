"""Weights & Biases, when asked for: the rows of metrics.jsonl, under the same names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cosmos_nemo.errors import UserError
from cosmos_nemo.lightning.metrics import Row
from cosmos_nemo.runs.log import RunLog


class WandbLog:
    """A W&B run that is continued when the training run is. A sink of `StepMetrics`, on rank 0 only.

    The environment goes before the recipe: WANDB_MODE, WANDB_PROJECT (or the guides' WANDB_PROJECT_NAME),
    WANDB_RUN_ID, WANDB_NAME, WANDB_ENTITY, ... mean what they always mean.

    Args:
        log: names of the run, and whether it is online.
        config: what is shown as the run's configuration.

    Raises:
        UserError: W&B cannot be started.
    """

    def __init__(self, log: RunLog, config: Mapping[str, Any]) -> None:
        import wandb

        self.run_dir = run_dir = log.run_dir
        run_dir.mkdir(parents=True, exist_ok=True)
        try:
            self.run = wandb.init(
                dir=str(run_dir),
                config=dict(config),
                settings=wandb.Settings(console="off", silent=True),
                **identity(log, run_dir, os.environ),
            )
        except wandb.errors.Error as error:
            raise UserError(
                f"Weights & Biases could not be started ({error}); use log.wandb=offline and `wandb sync` later."
            ) from error

    def __call__(self, row: Row) -> None:
        """Sends one row, leaving out what is not known; the path of a picture becomes the picture."""
        import wandb

        values = {name: value for name, value in row.items() if name != "step" and value is not None}
        for name, value in values.items():
            if isinstance(value, str) and value.endswith(".png"):
                values[name] = wandb.Image(str(self.run_dir / value))
        self.run.log(values, step=row["step"])

    def close(self) -> None:
        """Finishes the W&B run."""
        self.run.finish()


def identity(log: RunLog, run_dir: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of `wandb.init` that say which run this is; variables that W&B reads itself are left to it."""
    arguments: dict[str, Any] = {"resume": "allow"}
    if "WANDB_MODE" not in environment:
        arguments["mode"] = log.wandb
    if "WANDB_PROJECT" not in environment:
        arguments["project"] = environment.get("WANDB_PROJECT_NAME", log.project)
    if "WANDB_NAME" not in environment:
        arguments["name"] = log.name
    if "WANDB_RUN_GROUP" not in environment:
        arguments["group"] = log.group
    if "WANDB_RUN_ID" not in environment:
        # A function of the folder, so that the same command continues the same W&B run.
        arguments["id"] = hashlib.sha256(str(run_dir).encode()).hexdigest()[:12]
    return arguments

"""Where a run is written, how often, and who is told."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cosmos_nemo.errors import UserError


@dataclass(kw_only=True)
class RunLog:
    """Where a run is written, how often, and who is told.

    Attributes:
        project: first level below the output root.
        group: second level.
        name: third level; a run is continued by giving the same three names.
        output_root: None takes the environment's OUTPUT_ROOT, else `checkpoints`.
        recipe: name of the recipe, written to run.json.
        save_every_n_steps: optimizer steps between checkpoints; one is always written at the end and on SIGTERM.
        keep_last_k: checkpoints to keep; None keeps all.
        wandb: Weights & Biases; the metrics are those of metrics.jsonl.
    """

    project: str = "cosmos_nemo"
    group: str = "debug"
    name: str = "run"
    output_root: str | None = None
    recipe: str | None = None
    save_every_n_steps: int = 500
    keep_last_k: int | None = None
    wandb: Literal["off", "online", "offline"] = "off"

    def __post_init__(self) -> None:
        """Rejects what would not work.

        Raises:
            UserError: names the field.
        """
        for field in ("project", "group", "name"):
            value = getattr(self, field)
            if not value or value in (".", "..") or "/" in value:
                raise UserError(f"log.{field}={value!r} is not a folder name.")
        if self.save_every_n_steps < 1:
            raise UserError(f"log.save_every_n_steps={self.save_every_n_steps}; use 1 or more.")
        if self.keep_last_k is not None and self.keep_last_k < 1:
            raise UserError(f"log.keep_last_k={self.keep_last_k}; use 1 or more, or None to keep all.")
        if self.wandb not in ("off", "online", "offline"):
            raise UserError(f"log.wandb={self.wandb!r}; use off, online or offline.")

    @property
    def run_dir(self) -> Path:
        """OUTPUT_ROOT/PROJECT/GROUP/NAME, absolute."""
        root = self.output_root or os.environ.get("OUTPUT_ROOT") or "checkpoints"
        return Path(root).expanduser().absolute() / self.project / self.group / self.name

"""The folder of a run: where it lies, what it says about itself, and which checkpoint it continues from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cosmos_nemo.checkpoints.megatron import run_architecture
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.architecture import Architecture, differences
from cosmos_nemo.runs import layout

RUN_FORMAT = 1


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


@dataclass(kw_only=True)
class Resume:
    """Whether and from where a run continues.

    Attributes:
        resume_if_exists: continue from the newest undamaged checkpoint of the run folder, if there is one.
        path: a checkpoint (an `iter_*` folder, or a run folder for its newest) to continue from, with optimizer and
            data position. The run folder's own newest checkpoint goes before it, unless `path` is one of its own.
    """

    resume_if_exists: bool = True
    path: str | None = None


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a run starts from.

    Attributes:
        checkpoint: the checkpoint, None for a new run.
        message: one line for people.
        warnings: damaged checkpoints that were passed over.
    """

    checkpoint: layout.CheckpointInfo | None
    message: str
    warnings: tuple[str, ...] = ()


def choose_start(run_dir: Path, resume: Resume, architecture: Architecture) -> Start:
    """Decides which checkpoint a run continues from. Nothing is written.

    Args:
        run_dir: the run folder.
        resume: what the user asked for.
        architecture: of the model that is about to be trained.

    Raises:
        UserError: the named checkpoint is missing, damaged or of another model; every checkpoint of the run folder is
            damaged; or there are checkpoints and `resume_if_exists` is off.
    """
    own = run_dir / layout.CHECKPOINTS_DIR
    has_own = own.is_dir() and any(own.glob("iter_*"))
    named = Path(resume.path).expanduser().absolute() if resume.path else None
    if has_own and not resume.resume_if_exists and named is None:
        raise UserError(
            f"{run_dir} holds checkpoints already; choose another log.name, or resume.resume_if_exists=true to go on."
        )
    if named is not None and (not (has_own and resume.resume_if_exists) or own in named.parents):
        info = layout.find_checkpoint(named)
        _same_model(info, architecture)
        return Start(checkpoint=info, message=f"{info.path} (step {info.step}), named by resume.path")
    if not has_own:
        return Start(checkpoint=None, message="a new run")
    return _newest_undamaged(own, architecture)


def _newest_undamaged(folder: Path, architecture: Architecture) -> Start:
    warnings: list[str] = []
    candidates = sorted(folder.glob("iter_*"), key=lambda path: path.name, reverse=True)
    for candidate in candidates:
        try:
            info = layout.open_checkpoint(candidate)
        except UserError as error:
            warnings.append(f"passed over {candidate}: {error}")
            continue
        _same_model(info, architecture)
        return Start(
            checkpoint=info,
            message=f"{info.path} (step {info.step}), the newest undamaged one of this run",
            warnings=tuple(warnings),
        )
    raise UserError(
        f"all {len(candidates)} checkpoints in {folder} are damaged ({warnings[0]}); delete the folder to start over, "
        "or choose another log.name."
    )


def _same_model(info: layout.CheckpointInfo, architecture: Architecture) -> None:
    # Without run.json the weights alone tell, which are compared when they are loaded.
    different = architecture.differences(run_architecture(info)) if info.run else ""
    if different:
        raise UserError(
            f"{info.path} is of another model: {different}. Choose the recipe it was trained with, or another log.name "
            "for a new run."
        )


def changed_settings(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What a resumed run does otherwise than the run it continues, one line per part; `max_steps` may grow silently.

    Args:
        saved: run.json of the checkpoint.
        now: what run.json is going to be.
    """
    lines = []
    # What is left out either may change silently, or has been compared before.
    parts = [name for name, value in now.items() if isinstance(value, Mapping) and name not in ("model", "data")]
    for part in parts:
        changed = differences(saved.get(part) or {}, {k: v for k, v in now[part].items() if k != "max_steps"})
        lines += [f"{part}: {changed}"] if changed else []
    changed = differences(saved, {name: now[name] for name in ("seed", "precision")})
    return lines + ([changed] if changed else [])


def remove_debris(run_dir: Path) -> None:
    """Deletes what interrupted saves left behind. Complete checkpoints are never touched."""
    for leftover in (run_dir / layout.CHECKPOINTS_DIR).glob(".tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)

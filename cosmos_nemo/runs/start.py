"""Which checkpoint a run continues from, and what it then does otherwise."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cosmos_nemo.errors import UserError
from cosmos_nemo.runs import layout
from cosmos_nemo.runs.record import RunRecord, differences


@dataclass(kw_only=True)
class Resume:
    """Whether and from where a run continues."""

    resume_if_exists: bool = True
    """Continue from the newest undamaged checkpoint of the run folder, if there is one."""
    path: str | None = None
    """A checkpoint (an `iter_*` folder, or a run folder for its newest) to continue from, with optimizer and data
    position. The run folder's own newest checkpoint takes precedence, unless `path` is one of its own."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a run starts from."""

    checkpoint: layout.CheckpointInfo | None
    """The checkpoint; None for a new run."""
    message: str
    """One line for people."""
    warnings: tuple[str, ...] = ()
    """Damaged checkpoints that were passed over."""


def choose_start(run_dir: Path, resume: Resume, run: RunRecord) -> Start:
    """Decide which checkpoint a run continues from. Nothing is written.

    Args:
        run_dir: The run folder.
        resume: What the user asked for.
        run: What the run is going to be.

    Raises:
        UserError: The named checkpoint is missing, damaged or of another model; every checkpoint of the run folder is
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
        _same_model(info, run)
        return Start(checkpoint=info, message=f"{info.path} (step {info.step}), named by resume.path")
    if not has_own:
        return Start(checkpoint=None, message="a new run")
    return _newest_undamaged(own, run)


def _newest_undamaged(folder: Path, run: RunRecord) -> Start:
    """Return the start from the newest checkpoint of a run's own that is whole."""
    warnings: list[str] = []
    candidates = sorted(folder.glob("iter_*"), key=lambda path: path.name, reverse=True)
    for candidate in candidates:
        try:
            info = layout.open_checkpoint(candidate)
        except UserError as error:
            warnings.append(f"passed over {candidate}: {error}")
            continue
        _same_model(info, run)
        return Start(
            checkpoint=info,
            message=f"{info.path} (step {info.step}), the newest undamaged one of this run",
            warnings=tuple(warnings),
        )
    raise UserError(
        f"all {len(candidates)} checkpoints in {folder} are damaged ({warnings[0]}); delete the folder to start over, "
        "or choose another log.name."
    )


def _same_model(info: layout.CheckpointInfo, run: RunRecord) -> None:
    """Raise if a checkpoint is of another network, or was trained with an average and is to go on without one.

    Raises:
        UserError: Names what differs. The numbers of an average may change.
    """
    if info.run is None:  # the weights alone tell, which are compared when they are loaded
        return
    different = run.model_differences(info.run)
    if different:
        raise UserError(
            f"{info.path} is of another model: {different}. Choose the recipe it was trained with, or another log.name "
            "for a new run."
        )
    had, has = info.run.averaging is not None, run.averaging is not None
    if had != has:
        raise UserError(
            f"the checkpoint was made {'with' if had else 'without'} a moving average of the weights; "
            f"{'set' if had else 'unset'} model.ema_decay or model.ema_rate, or start a new run (another log.name)."
        )


_COMPARED = ("objective", "lora", "averaging", "optimizer")
"""Parts of a record whose changes are announced; the model and the data are compared elsewhere."""


def changed_settings(saved: RunRecord, now: RunRecord) -> list[str]:
    """Return what a resumed run does otherwise than the run it continues, one line per part.

    The number of steps may grow silently.
    """
    lines = []
    for part in _COMPARED:
        changed = differences(_entries(saved, part), _entries(now, part))
        lines += [f"{part}: {changed}"] if changed else []
    changed = differences(*({name: getattr(run, name) for name in ("seed", "precision")} for run in (saved, now)))
    return lines + ([changed] if changed else [])


def _entries(run: RunRecord, part: str) -> Mapping[str, object]:
    """Return a part of a record as a dictionary, without the number of steps."""
    return {name: value for name, value in (getattr(run, part) or {}).items() if name != "max_steps"}


def remove_debris(run_dir: Path) -> None:
    """Delete what interrupted saves left behind. Complete checkpoints are never touched."""
    for leftover in (run_dir / layout.CHECKPOINTS_DIR).glob(".tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)

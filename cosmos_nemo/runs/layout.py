"""The layout of a run's folder, its integrity manifest, and finding the checkpoint a user means.

    OUTPUT_ROOT/PROJECT/GROUP/NAME/
        run.json                                  what was trained: recipe, network, objective, data
        metrics.jsonl                             a row of numbers per optimizer step
        checkpoints/latest_checkpoint.txt         one line, for other tools: the newest complete iter_*, written last
        checkpoints/iter_{N:09d}/weights/         Megatron distributed checkpoint (torch_dist)
        checkpoints/iter_{N:09d}/manifest.json    files and sizes, step, consumed samples; written after them

N counts completed optimizer steps; `record.py` says what run.json holds.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cosmos_nemo.errors import UserError
from cosmos_nemo.files import read_json
from cosmos_nemo.runs.record import RunRecord, read_record

logger = logging.getLogger(__name__)

CHECKPOINTS_DIR = "checkpoints"
WEIGHTS_DIR = "weights"
MANIFEST_FILE = "manifest.json"
LATEST_FILE = "latest_checkpoint.txt"

_ITERATION = re.compile(r"iter_(\d{9,})")


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """One checkpoint of a run.

    Attributes:
        path: the `iter_*` folder.
        step: completed optimizer steps.
        manifest: content of `manifest.json`.
        run: what the run's `run.json` says; None if there is none.
    """

    path: Path
    step: int
    manifest: Mapping[str, Any] = field(default_factory=dict)
    run: RunRecord | None = None

    @property
    def weights(self) -> Path:
        """The Megatron distributed checkpoint."""
        return self.path / WEIGHTS_DIR

    @property
    def run_dir(self) -> Path:
        """The run's folder."""
        return self.path.parent.parent


def iteration_name(step: int) -> str:
    """Folder name of the checkpoint after `step` completed optimizer steps."""
    return f"iter_{step:09d}"


def is_training_checkpoint(path: str | Path) -> bool:
    """Whether `path` is a run folder, its `checkpoints`, an `iter_*` folder or its `weights`."""
    path = Path(path)
    return path.is_dir() and bool(iterations(path))


def iterations(path: Path) -> list[Path]:
    """The `iter_*` folders that `path` stands for, newest first."""
    if path.name == WEIGHTS_DIR and (path.parent / MANIFEST_FILE).is_file():
        return [path.parent]
    if (path / WEIGHTS_DIR).is_dir():
        return [path]
    folder = path / CHECKPOINTS_DIR if (path / CHECKPOINTS_DIR).is_dir() else path
    found = (child for child in folder.glob("iter_*") if _ITERATION.fullmatch(child.name))
    return sorted(found, key=lambda child: child.name, reverse=True)


def find_checkpoint(path: str | Path) -> CheckpointInfo:
    """Find the checkpoint that a user names by a run folder, its `checkpoints`, or an `iter_*` folder.

    Of several the newest undamaged one is taken, as resuming does, with a warning if a newer one is damaged. An
    `iter_*` folder named directly must be undamaged.

    Raises:
        UserError: no such folder, no checkpoint in it (what is there is listed), or every one is damaged.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"No checkpoint folder at {path}{_existing(path.parent)}.")
    candidates = iterations(path)
    if not candidates:
        raise UserError(f"{path} holds no checkpoint (no {CHECKPOINTS_DIR}/iter_*/{WEIGHTS_DIR}){_existing(path)}.")
    problems = []
    for candidate in candidates:
        try:
            info = open_checkpoint(candidate)
        except UserError as error:
            problems.append(str(error))
            continue
        if problems:
            logger.warning("Taking %s: %s", candidate, problems[0])
        return info
    raise UserError(problems[0] if len(problems) == 1 else f"Every checkpoint in {path} is damaged: {problems[0]}")


def open_checkpoint(path: str | Path) -> CheckpointInfo:
    """Read one `iter_*` folder's manifest and check its files against it.

    Raises:
        UserError: the manifest or a file is missing, or a file has another size; names it, expected and found.
    """
    path = Path(path)
    manifest = read_json(path / MANIFEST_FILE, "the save did not finish; use another checkpoint")
    check_files(path, manifest)
    if not isinstance(manifest.get("step"), int):
        raise UserError(f"{path / MANIFEST_FILE} names no step; it is not the manifest of a checkpoint.")
    run = read_record(path.parent.parent)
    return CheckpointInfo(path=path, step=manifest["step"], manifest=manifest, run=run)


def check_files(folder: Path, manifest: Mapping[str, Any]) -> dict[str, int]:
    """Check that every file of the manifest is there in its full size.

    Returns:
        file name -> bytes.

    Raises:
        UserError: a file is missing or has another size.
    """
    sizes = manifest_sizes(manifest, source=str(folder / MANIFEST_FILE))
    for name, expected in sizes.items():
        file = folder / name
        if not file.is_file():
            raise UserError(f"{file} is missing ({expected} bytes expected); the checkpoint is incomplete.")
        found = file.stat().st_size
        if found != expected:
            raise UserError(
                f"{file} has {found} bytes, {expected} expected: it is truncated or damaged; use another checkpoint."
            )
    return sizes


def manifest_sizes(manifest: Mapping[str, Any], *, source: str = MANIFEST_FILE) -> dict[str, int]:
    """File name -> bytes as listed in a manifest."""
    files = manifest.get("files")
    if not isinstance(files, Mapping) or not files:
        raise UserError(f"{source} lists no files; it is not the manifest of a checkpoint.")
    return {str(name): int(size) for name, size in files.items()}


def make_manifest(folder: Path, *, step: int, consumed_samples: int) -> dict[str, Any]:
    """The manifest of the files that lie below `folder` now."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST_FILE)
    return {
        "step": step,
        "consumed_samples": consumed_samples,
        "files": {path.relative_to(folder).as_posix(): path.stat().st_size for path in files},
    }


def _existing(folder: Path) -> str:
    """What lies in a folder, for an error message."""
    if not folder.is_dir():
        return f" (there is no folder {folder} either)"
    names = sorted(child.name for child in folder.iterdir() if not child.name.startswith("."))
    return f"; in {folder}: {', '.join(names[:12]) or 'nothing'}{', ...' if len(names) > 12 else ''}"

"""The output folder: whose it is, what is finished in it, and how a dataset is replaced.

A shard is the unit of work. It is written under a temporary name, synced and renamed; a record under `.prep/` then says
what it holds. A shard without a record is made again, so the work can be killed at any moment; making it again also
removes what the killed process left of it.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cosmos_nemo.data.manifest import MANIFEST_NAME, ShardRecord
from cosmos_nemo.errors import UserError
from cosmos_nemo.files import WORKPLACE, remove_debris, write_text
from data_prep.datasets.files import RECORDS, REPORT_NAME

SETTINGS_NAME = "settings.json"
OWN_FILES = (f"{MANIFEST_NAME}*", f"{REPORT_NAME}*", "train-*.tar*", "val-*.tar*", "[0-9]*.tar*")
OWN_FOLDERS = (RECORDS, ".nv-meta", *(f"{WORKPLACE}{name}" for name in OWN_FILES))


@dataclass(frozen=True, kw_only=True)
class Done:
    """The record of a finished shard."""

    shard: ShardRecord
    shapes: tuple[tuple[int, ...], ...]
    """Different shapes of its samples' latents or token ids; none for raw video."""
    sizes: tuple[tuple[int, ...], ...]
    """Different (frames, height, width) of its samples."""
    text_width: int | None
    """Width of the text embeddings; None without any."""
    vocab_size: int | None
    """Of token ids."""
    fps: tuple[float, ...]
    """Different frame rates of its samples."""
    used: dict[str, int]
    """Samples in this shard by stem."""
    bad: dict[str, str]
    """Stems that could not be used, and why."""


def claim_folder(folder: Path, settings: dict[str, Any], *, overwrite: bool) -> None:
    """Take `folder` for these settings, or continue what an earlier call with the same settings left.

    Raises:
        UserError: it was made with other settings, which are named, or holds something else.
    """
    file = folder / RECORDS / SETTINGS_NAME
    if file.is_file() and not overwrite:
        found = json.loads(file.read_text(encoding="utf-8"))
        changed = changed_settings(found, settings)
        if changed:
            raise UserError(
                f"{folder} was made with other settings: {'; '.join(changed[:4])}; "
                "use another --output, or --overwrite to make it again"
            )
        remove_debris(folder, folder / RECORDS)
        return
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder} is a file; give a folder")
    # A kill while the settings were written leaves the records' folder without them.
    if folder.exists() and not file.is_file() and any(f.name != RECORDS for f in folder.iterdir()):
        raise UserError(f"--output {folder} is not empty and was not made by this command; use another folder")
    if overwrite:
        remove_own_files(folder)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(settings, indent=2, sort_keys=True) + "\n")


def work_folder(folder: Path, settings: dict[str, Any], *, overwrite: bool) -> Path:
    """Return where to build: `folder`, or beside it if it holds a dataset to replace, which stays whole until then.

    A replacement that was interrupted is continued if its settings are the same, and started again otherwise.

    Raises:
        UserError: see `claim_folder`.
    """
    if not (overwrite and (folder / RECORDS / SETTINGS_NAME).is_file()):
        claim_folder(folder, settings, overwrite=overwrite)
        return folder
    beside = folder.with_name(f".{folder.name}.new")
    file = beside / RECORDS / SETTINGS_NAME
    other = file.is_file() and changed_settings(json.loads(file.read_text(encoding="utf-8")), settings)
    claim_folder(beside, settings, overwrite=bool(other))
    return beside


def put_in_place(built: Path, folder: Path) -> None:
    """Replace the dataset in `folder` by the one built beside it; files that this command did not make are kept."""
    if built == folder:
        return
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    os.replace(folder, old)
    os.replace(built, folder)
    remove_own_files(old)
    for other in old.iterdir():
        os.replace(other, folder / other.name)
    old.rmdir()


def changed_settings(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Describe the settings that differ."""
    changed = []
    for name in sorted(old.keys() | new.keys()):
        before, now = old.get(name), new.get(name)
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            inner = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
            changed.append(f"{name} differ in {', '.join(inner[:3])}{' and more' if len(inner) > 3 else ''}")
        else:
            changed.append(f"{name} was {before}, now {now}")
    return changed


def remove_own_files(folder: Path) -> None:
    """Delete what this command makes, and nothing else."""
    # The manifest goes first: a half-deleted dataset must not look complete.
    for pattern in OWN_FILES:
        for file in folder.glob(pattern):
            file.unlink()
    for pattern in OWN_FOLDERS:
        for own in folder.glob(pattern):
            shutil.rmtree(own)


def read_done(folder: Path, name: str) -> Done | None:
    """Return the record of a shard, if the shard exists and has the recorded size."""
    file = folder / RECORDS / f"{name}.json"
    if not file.is_file():
        return None
    raw = json.loads(file.read_text(encoding="utf-8"))
    shard = ShardRecord(**raw["shard"])
    tar = folder / name
    if shard.samples and not (tar.is_file() and tar.stat().st_size == shard.bytes):
        return None
    return Done(
        shard=shard,
        shapes=tuple(tuple(shape) for shape in raw["shapes"]),
        sizes=tuple(tuple(size) for size in raw["sizes"]),
        text_width=raw["text_width"],
        vocab_size=raw["vocab_size"],
        fps=tuple(raw["fps"]),
        used=raw["used"],
        bad=raw["bad"],
    )


def write_done(folder: Path, done: Done) -> None:
    """Record a finished shard."""
    text = json.dumps(asdict(done), indent=1, sort_keys=True) + "\n"
    write_text(folder / RECORDS / f"{done.shard.name}.json", text)

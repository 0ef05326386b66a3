"""Writes files and folders so that they are either the old ones or whole, and tells two files apart."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cosmos_nemo.errors import UserError


def refuse_existing(target: Path, *, overwrite: bool) -> None:
    """Raise before any work is done if `target` exists and may not be replaced.

    Raises:
        UserError: the target exists and `overwrite` is False.
    """
    if os.path.lexists(target) and not overwrite:
        raise UserError(f"{target} exists already; give another name, or --overwrite to replace it.")


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Args:
        path: the file.
        remedy: what to do if it cannot be read; ends the message.

    Raises:
        UserError: missing, not JSON, or not an object.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; {remedy}.") from error
    except ValueError as error:
        raise UserError(f"{path} is not readable JSON ({error}); {remedy}.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} does not hold a JSON object; {remedy}.")
    return content


@contextmanager
def staged(target: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path to write a file or a folder to; it becomes `target` when the block ends well.

    The temporary name lies in the target's folder (a rename works there only within one file system) and ends
    with the target's own suffix, which writers use to choose a format. If the block fails, the temporary output
    is removed and an existing target is left as it was.

    Args:
        target: file or folder to appear.
        overwrite: replace an existing target.

    Yields:
        the temporary path; nothing exists there yet.

    Raises:
        UserError: the target exists and `overwrite` is False, or its folder cannot be written to.
    """
    target = Path(target)
    refuse_existing(target, overwrite=overwrite)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot create the folder {target.parent}: {error.strerror}.") from error
    unique = uuid.uuid4().hex[:8]
    temporary = target.parent / f".tmp-{unique}-{target.name}"
    try:
        yield temporary
        sync(temporary)
        _put_in_place(temporary, target, unique)
    finally:
        _remove(temporary)


def sync(path: Path) -> None:
    """Flush a file, or every file below a folder, to the disk."""
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file():
            fsync(file)


def fsync(path: Path) -> None:
    """Flush one file, or the entries of one folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put_in_place(temporary: Path, target: Path, unique: str) -> None:
    """Rename over the target; a folder cannot be replaced in one step, so the old one is set aside first."""
    if not target.is_dir() or target.is_symlink():
        os.replace(temporary, target)
        return
    aside = target.parent / f".old-{unique}-{target.name}"
    os.replace(target, aside)
    try:
        os.replace(temporary, target)
    except OSError:
        os.replace(aside, target)
        raise
    _remove(aside)


def _remove(path: Path) -> None:
    """Remove a file or folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Write `text` so that readers see either the old file or the whole new one, also after a crash."""
    temporary = file.with_name(file.name + ".tmp")
    with open(temporary, "w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, file)
    fsync(file.parent)


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write readable JSON as `write_text` does."""
    write_text(file, json.dumps(content, indent=2) + "\n")


def file_sha256(*files: Path) -> str:
    """SHA-256 over the contents of files, in the order given, read in pieces."""
    digest = hashlib.sha256()
    for file in files:
        for piece in _pieces(file):
            digest.update(piece)
    return digest.hexdigest()


def _pieces(file: Path) -> Iterator[bytes]:
    with open(file, "rb") as stream:
        while piece := stream.read(1 << 20):
            yield piece

"""Write files and folders so that readers see the old one or the whole new one, and tell two files apart."""

from __future__ import annotations

import contextlib
import errno
import fcntl
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

WORKPLACE = ".tmp-"
"""Beginning of the name of a hidden folder in which a file or folder is written before it gets its own name."""

_LOCK, _OLD, _END = ".lock", ".old-", ".part"  # the end keeps a pattern such as *.txt from matching such a folder


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

    The path has the target's own name, in a hidden folder beside it (a rename works only within one file system). If
    the block fails, the temporary output is removed and an existing target stays as it was. A process that is killed
    leaves the hidden folder behind, and whoever writes the same target next removes it.

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
    with _workplace(target) as place:
        refuse_existing(target, overwrite=overwrite)  # `_clear` may have given it back
        temporary = place / target.name
        yield temporary
        sync(temporary)
        _put_in_place(temporary, target, place / f"{_OLD}{target.name}")
        fsync(target.parent)


@contextmanager
def _workplace(target: Path) -> Iterator[Path]:
    """Give an empty folder beside `target` that no other process uses."""
    name = f"{WORKPLACE}{target.name}"
    usual, other = (target.parent / (name + end) for end in (_END, f"-{uuid.uuid4().hex[:8]}{_END}"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        place, lock = _take_one_of(usual, other)
    except OSError as error:
        raise UserError(f"Cannot write in the folder {target.parent}: {error.strerror}.") from error
    try:
        _clear(place)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)  # another process may have begun to use it just now
        if lock is not None:
            os.close(lock)


def _take_one_of(usual: Path, other: Path) -> tuple[Path, int | None]:
    """Lock one of two folders; on a file system without locks, make the other one, which nobody else knows."""
    for place in (usual, other):
        with contextlib.suppress(OSError):
            return place, _take(place)
    other.mkdir()
    return other, None


def _take(place: Path) -> int:
    """Lock a folder, made if need be, until the process ends or closes the descriptor that is returned.

    Raises:
        OSError: another process holds the lock, or the file system has none.
    """
    while True:
        place.mkdir(exist_ok=True)
        try:
            lock = os.open(place / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # its owner removed the folder just now
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            if error.errno not in (errno.EAGAIN, errno.EACCES):  # no locks here: nobody can hold one
                with contextlib.suppress(OSError):
                    (place / _LOCK).unlink()
                    place.rmdir()
            raise
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), os.stat(place / _LOCK)):
                return lock
        os.close(lock)  # of a folder that its owner has removed since


def _clear(place: Path) -> None:
    """Remove what a killed process left, and give back the target that it had set aside."""
    for leftover in place.iterdir():
        target = place.parent / leftover.name.removeprefix(_OLD)
        if leftover.name.startswith(_OLD) and not os.path.lexists(target):
            os.replace(leftover, target)
        elif leftover.name != _LOCK:
            _remove(leftover)


def remove_debris(*folders: Path) -> None:
    """Remove what killed processes left in these folders; what a live one is writing stays.

    Whoever writes a target again removes what was left of that target. This is for commands that keep the files which
    are there already, and so may not write them again. On a file system without locks nothing is removed.
    """
    for place in (place for folder in folders for place in sorted(folder.glob(f"{WORKPLACE}*{_END}"))):
        try:
            lock = _take(place)
        except OSError:
            continue
        _clear(place)
        shutil.rmtree(place, ignore_errors=True)
        os.close(lock)


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


def _put_in_place(temporary: Path, target: Path, aside: Path) -> None:
    """Rename over the target; a folder cannot be replaced in one step, so the old one is set aside first."""
    if not target.is_dir() or target.is_symlink():
        os.replace(temporary, target)
        return
    os.replace(target, aside)
    try:
        os.replace(temporary, target)
    except OSError:
        os.replace(aside, target)
        raise


def _remove(path: Path) -> None:
    """Remove a file or folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Write `text` in UTF-8 with plain newlines, as `staged` does."""
    with staged(file, overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_bytes(file: Path, content: bytes) -> None:
    """Write `content`, as `staged` does."""
    with staged(file, overwrite=True) as temporary:
        temporary.write_bytes(content)


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write readable JSON, as `staged` does."""
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

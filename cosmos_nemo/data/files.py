"""Files that are either the old ones or whole, and what tells two of them apart."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path


def write_text_atomic(file: Path, text: str) -> None:
    """Write `text` so that readers see either the old file or the whole new one, also after a crash."""
    temporary = file.with_name(file.name + ".tmp")
    with open(temporary, "w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


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

"""Files that are either the old ones or whole."""

import os
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

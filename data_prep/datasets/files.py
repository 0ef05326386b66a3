"""The files of a dataset folder: tar shards whose bytes depend on their samples alone, and Energon's index."""

import contextlib
import hashlib
import io
import os
import re
import shutil
import tarfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from cosmos_nemo.data.manifest import MANIFEST_NAME, Manifest, ShardRecord
from cosmos_nemo.errors import UserError
from cosmos_nemo.files import file_sha256, staged, write_text
from data_prep.datasets.reading import RawSample

REPORT_NAME = "report.json"
"""What became of every input file."""

RECORDS = ".prep"
"""Folder with a record of every shard that `shards` has finished, and with the settings of that command."""


def write_tar(file: Path, members: Iterable[tuple[str, bytes | Path]]) -> None:
    """Write a tar whose bytes depend on the members alone, in one step.

    Args:
        file: the tar; replaced if it exists.
        members: names and contents, or the files that hold them; those of a sample follow each other. Without any,
            nothing is written.
    """
    rest = iter(members)
    first = next(rest, None)
    if first is None:
        return
    with staged(file, overwrite=True) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in chain([first], rest):
            _add(tar, name, content)


def _add(tar: tarfile.TarFile, name: str, content: bytes | Path) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode = 0o644
    if isinstance(content, Path):
        with open(content, "rb") as source:
            entry.size = os.fstat(source.fileno()).st_size
            tar.addfile(entry, source)
    else:
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))


def write_samples(file: Path, samples: Iterable[RawSample], *, split: str, prefix: str = "") -> ShardRecord:
    """Write samples of other shards, byte for byte, as a shard.

    Args:
        file: the tar; not written without samples.
        samples: what to write.
        split: "train" or "val".
        prefix: put in front of every key.

    Returns:
        the shard's record.
    """
    count = 0

    def members() -> Iterator[tuple[str, bytes]]:
        nonlocal count
        for raw in samples:
            count += 1
            yield from ((f"{prefix}{raw.key}.{part}", content) for part, content in raw.parts.items())

    write_tar(file, members())
    return tar_record(file, split=split, samples=count)


def tar_record(file: Path, *, split: str, samples: int) -> ShardRecord:
    """Describe a finished tar."""
    if not samples:
        return ShardRecord(name=file.name, split=split, bytes=0, samples=0, sha256=hashlib.sha256().hexdigest())
    size = file.stat().st_size
    return ShardRecord(name=file.name, split=split, bytes=size, samples=samples, sha256=file_sha256(file))


def index_for_energon(folder: Path, shards: list[ShardRecord]) -> None:
    """Make Energon's `.nv-meta`: the index, the split by shard name, and the description of a crude dataset."""
    from megatron.energon import BaseWebdatasetFactory

    shutil.rmtree(folder / ".nv-meta", ignore_errors=True)
    names = {split: [re.escape(s.name) for s in shards if s.split == split] for split in ("train", "val")}
    splits = [(split, "|".join(found)) for split, found in names.items() if found]
    with contextlib.redirect_stdout(io.StringIO()):  # it reports progress by print
        BaseWebdatasetFactory.prepare_dataset(
            folder, [s.name for s in shards], split_parts_patterns=splits, shuffle_seed=None, workers=1
        )
    meta = folder / ".nv-meta"
    description = "__module__: megatron.energon\n__class__: CrudeWebdataset\n"
    write_text(meta / "dataset.yaml", description)
    # Energon draws this at random; from the contents, equal datasets are equal files.
    contents = hashlib.sha256("".join(s.sha256 for s in shards).encode()).digest()
    write_text(meta / "index.uuid", str(uuid.UUID(bytes=contents[:16])))


@contextmanager
def new_dataset(output: Path) -> Iterator[Path]:
    """Give a folder to build in, which gets its name when it is complete.

    Raises:
        UserError: the output exists.
    """
    if output.exists():
        raise UserError(f"--output {output} exists already; use another folder")
    with staged(output) as place:
        place.mkdir()
        yield place


def complete(place: Path, manifest: Manifest) -> None:
    """Add Energon's index and the manifest."""
    index_for_energon(place, list(manifest.shards))
    manifest.write(place)
    assert (place / MANIFEST_NAME).is_file()

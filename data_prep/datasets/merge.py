"""Join datasets that were prepared alike; samples keep their bytes."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cosmos_nemo.data.blend import combine
from cosmos_nemo.data.manifest import Manifest, ShardRecord, check_shards, read_manifest
from cosmos_nemo.errors import UserError
from data_prep.datasets.files import complete, new_dataset, write_samples
from data_prep.datasets.reading import read_dataset, read_shard


def merge(
    folders: list[Path], output: Path, *, on_shard: Callable[[str], None] = lambda name: None
) -> tuple[Manifest, list[str]]:
    """Make one dataset of several, which stay as they are. If two use the same key, the later one's keys get a prefix.

    Args:
        folders: datasets that were prepared alike, at least two.
        output: the new dataset's folder, which must not exist.
        on_shard: progress: called after each shard.

    Returns:
        the new manifest, and what the user should know.

    Raises:
        UserError: they cannot be mixed, or the output exists.
    """
    if len(folders) < 2:
        raise UserError("merge needs at least two datasets")
    manifests = [read_manifest(folder) for folder in folders]
    for folder, manifest in zip(folders, manifests, strict=True):
        check_shards(folder, manifest)
    merged = combine(folders, manifests)
    keys, sides, clashing = _survey(folders, manifests)
    notes = _leaks(sides)
    records: list[ShardRecord] = []
    with new_dataset(output) as place:
        numbered = manifests[0].shards[0].name[0].isdigit()
        for split in ("train", "val"):
            for number, (folder, manifest) in enumerate(zip(folders, manifests, strict=True)):
                prefix = f"d{number}_" if number in clashing else ""
                for shard in (s for s in manifest.shards if s.split == split):
                    count = len(records) if numbered else sum(r.split == split for r in records)
                    file = place / (f"{count:06d}.tar" if numbered else f"{split}-{count:06d}.tar")
                    records.append(_take_shard(folder, shard, file, prefix))
                    on_shard(shard.name)
        notes += [f"keys of {folders[n]} were taken already and now begin with d{n}_" for n in sorted(clashing)]
        options = {"merged": [folder.name for folder in folders]}
        result = replace(merged, shards=tuple(records), sources=_sources(folders, manifests), options=options)
        complete(place, result)
    assert sum(r.samples for r in records) == len(keys)
    return result, notes


def _survey(
    folders: list[Path], manifests: list[Manifest]
) -> tuple[list[str], dict[str, set[tuple[str, str]]], set[int]]:
    """Find all keys, the splits that use each source's content, and the datasets that use an earlier one's keys."""
    keys: list[str] = []
    sides: dict[str, set[tuple[str, str]]] = {}
    seen: set[str] = set()
    clashing: set[int] = set()
    for number, (folder, manifest) in enumerate(zip(folders, manifests, strict=True)):
        mine = set()
        for raw in read_dataset(folder, manifest):
            mine.add(raw.key)
            keys.append(raw.key)
            digest = manifest.sources.get(raw.source, "")
            if digest:
                sides.setdefault(digest, set()).add((raw.shard.split, f"{folder}/{raw.source}"))
        if mine & seen:
            clashing.add(number)
        seen |= mine
    return keys, sides, clashing


def _sources(folders: list[Path], manifests: list[Manifest]) -> dict[str, str]:
    """Return the hashes of all inputs; a name that stands for different files is preceded by its dataset's."""
    meanings: dict[str, set[str]] = {}
    for manifest in manifests:
        for name, digest in manifest.sources.items():
            meanings.setdefault(name, set()).add(digest)
    return {
        name if len(meanings[name]) == 1 else f"{folder.name}/{name}": digest
        for folder, manifest in zip(folders, manifests, strict=True)
        for name, digest in manifest.sources.items()
    }


def _leaks(sides: dict[str, set[tuple[str, str]]]) -> list[str]:
    """Describe the sources that are now both trained on and held out."""
    found = [sorted(uses) for uses in sides.values() if len({split for split, _ in uses}) > 1]
    if not found:
        return []
    (_, first), (_, second) = found[0][0], found[0][-1]
    return [
        f"{len(found)} source files are trained on in one dataset and held out in another ({first} and {second}); "
        "split the result again with `python -m data_prep split`"
    ]


def _take_shard(folder: Path, shard: ShardRecord, file: Path, prefix: str) -> ShardRecord:
    """Put a shard into a new folder: with other keys, or as it is and then as a hard link where possible."""
    source = folder / shard.name
    if prefix:
        return write_samples(file, read_shard(folder, shard), split=shard.split, prefix=prefix)
    try:
        os.link(source, file)  # nobody changes a shard in place, they are replaced
    except OSError:  # another file system
        shutil.copyfile(source, file)
    return replace(shard, name=file.name)

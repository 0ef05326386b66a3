"""New datasets made of the samples of others: merged, or split anew. Samples keep their bytes."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cosmos_nemo.data.blend import combine
from cosmos_nemo.data.manifest import MANIFEST_NAME, Manifest, ShardRecord, check_shards, read_manifest
from cosmos_nemo.errors import UserError
from cosmos_nemo.files import staged
from data_prep.output import index_for_energon, tar_record, write_tar
from data_prep.plan import hold_out
from data_prep.reading import RawSample, read_dataset, read_shard

OnStep = Callable[[str], None]


def merge(folders: list[Path], output: Path, *, on_shard: OnStep = lambda name: None) -> tuple[Manifest, list[str]]:
    """One dataset of several, which stay as they are. Where two use the same key, the later one's keys get a prefix.

    Args:
        folders: datasets that were prepared alike, at least two.
        output: the new dataset's folder, which must not exist.
        on_shard: progress: called after each shard.

    Returns: the new manifest, and what the user should know.

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
    with _new_folder(output) as place:
        numbered = manifests[0].shards[0].name[0].isdigit()
        for split in ("train", "val"):
            for number, (folder, manifest) in enumerate(zip(folders, manifests, strict=True)):
                prefix = f"d{number}_" if number in clashing else ""
                for shard in (s for s in manifest.shards if s.split == split):
                    count = len(records) if numbered else sum(r.split == split for r in records)
                    file = place / (f"{count:06d}.tar" if numbered else f"{split}-{count:06d}.tar")
                    records.append(_take_shard(folder, shard, file, prefix))
                    on_shard(shard.name)
        notes += [f"keys of {folders[n]} were in use and now begin with d{n}_" for n in sorted(clashing)]
        options = {"merged": [folder.name for folder in folders]}
        result = replace(merged, shards=tuple(records), sources=_sources(folders, manifests), options=options)
        _complete(place, result)
    assert sum(r.samples for r in records) == len(keys)
    return result, notes


def _survey(
    folders: list[Path], manifests: list[Manifest]
) -> tuple[list[str], dict[str, set[tuple[str, str]]], set[int]]:
    """All keys, the splits in which each source's content is used, and which datasets use an earlier one's keys."""
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
    """Hashes of all inputs; names that stand for different files get their dataset's in front."""
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
    """Sources that are now trained on and held out at once."""
    found = [sorted(uses) for uses in sides.values() if len({split for split, _ in uses}) > 1]
    if not found:
        return []
    (_, first), (_, second) = found[0][0], found[0][-1]
    return [
        f"{len(found)} source files are for training in one dataset and held out in another ({first} and {second}); "
        "split the result again with `python -m data_prep split`"
    ]


def _take_shard(folder: Path, shard: ShardRecord, file: Path, prefix: str) -> ShardRecord:
    """Bring a shard into a new folder: as it is, sharing the disk's blocks where possible, or with other keys."""
    source = folder / shard.name
    if prefix:
        count = 0

        def members() -> Iterator[tuple[str, bytes]]:
            nonlocal count
            for raw in read_shard(folder, shard):
                count += 1
                yield from ((f"{prefix}{raw.key}.{part}", content) for part, content in raw.parts.items())

        write_tar(file, members())
        return tar_record(file, split=shard.split, samples=count)
    try:
        os.link(source, file)  # nobody changes a shard in place, they are replaced
    except OSError:  # another file system
        shutil.copyfile(source, file)
    return replace(shard, name=file.name)


def split_again(
    folder: Path,
    output: Path,
    *,
    val: float,
    seed: int,
    samples_per_shard: int = 32,
    on_sample: OnStep = lambda key: None,
) -> Manifest:
    """A dataset with the same samples, of which another share is held out, chosen by a hash of the source video.

    Args:
        folder: the dataset, which stays as it is.
        output: the new dataset's folder, which must not exist.
        val: share of the source videos held out.
        seed: of the choice.
        samples_per_shard: at most.
        on_sample: progress: called after each sample.

    Raises:
        UserError: not a whole dataset, a fraction that is none, or the output exists.
    """
    manifest = read_manifest(folder)
    check_shards(folder, manifest)
    if samples_per_shard < 1:
        raise UserError(f"--samples-per-shard {samples_per_shard} must be at least 1")

    def identity(raw: RawSample) -> str:
        """The same for all samples of one video, under whatever names it was given."""
        return manifest.sources.get(raw.source, raw.source)

    held_out = hold_out({identity(raw) for raw in read_dataset(folder, manifest)}, val, seed)
    numbered = manifest.shards[0].name[0].isdigit()
    records: list[ShardRecord] = []
    with _new_folder(output) as place:
        for split in ("train", "val"):
            mine = (raw for raw in read_dataset(folder, manifest) if (identity(raw) in held_out) == (split == "val"))
            for index, group in enumerate(_groups(mine, samples_per_shard)):
                file = place / (f"{len(records):06d}.tar" if numbered else f"{split}-{index:06d}.tar")
                count = 0

                def members(group: Iterable[RawSample] = group) -> Iterator[tuple[str, bytes]]:
                    nonlocal count
                    for raw in group:
                        count += 1
                        yield from ((f"{raw.key}.{part}", content) for part, content in raw.parts.items())
                        on_sample(raw.key)

                write_tar(file, members())
                records.append(tar_record(file, split=split, samples=count))
        options = manifest.options | {"val_fraction": val, "split_seed": seed, "samples_per_shard": samples_per_shard}
        result = replace(manifest, shards=tuple(records), options=options)
        _complete(place, result)
    return result


def _groups(samples: Iterator[RawSample], size: int) -> Iterator[Iterator[RawSample]]:
    """Up to `size` samples each, read as they are needed."""
    for first in samples:

        def group(first: RawSample = first) -> Iterator[RawSample]:
            yield first
            for _ in range(size - 1):
                following = next(samples, None)
                if following is None:
                    return
                yield following

        yield group()


@contextmanager
def _new_folder(output: Path) -> Iterator[Path]:
    """A folder to build in, which gets its name when it is complete. What an interrupted call left is cleared away."""
    if output.exists():
        raise UserError(f"--output {output} exists; use another folder")
    with staged(output) as place:
        place.mkdir()
        yield place


def _complete(place: Path, manifest: Manifest) -> None:
    """Add Energon's index and the manifest."""
    index_for_energon(place, list(manifest.shards))
    manifest.write(place)
    assert (place / MANIFEST_NAME).is_file()

"""Repair damaged datasets: what can be read of one becomes a whole dataset again."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from cosmos_nemo.data.manifest import MANIFEST_NAME, Manifest, ShardRecord, read_manifest
from cosmos_nemo.errors import UserError
from cosmos_nemo.files import file_sha256
from data_prep.datasets.files import RECORDS, index_for_energon, write_samples
from data_prep.datasets.reading import RawSample, read_shard
from data_prep.datasets.verify import check_sample

BEFORE = f"{MANIFEST_NAME}.before"


def repair(folder: Path, *, on_shard: Callable[[str], None] = lambda name: None) -> dict[str, int]:
    """Remove what is damaged from a dataset and keep the rest: of a truncated shard, the samples before its end.

    While shards are replaced there is no manifest, so that a half-repaired dataset does not look complete; the old
    manifest waits under another name, and an interrupted repair is completed by the next one.

    Returns:
        the shards that lost samples, and how many each.

    Raises:
        UserError: there is no manifest, or nothing would be left for training.
    """
    if (folder / BEFORE).exists() and not (folder / MANIFEST_NAME).exists():
        os.replace(folder / BEFORE, folder / MANIFEST_NAME)
    manifest = read_manifest(folder)
    keys: dict[str, str] = {}
    kept: list[ShardRecord] = []
    lost: dict[str, int] = {}
    for shard in manifest.shards:
        good = _good_samples(folder, manifest, shard, keys)
        file = folder / f"{shard.name}.repaired"
        if good is None:
            kept.append(shard)
        else:
            undamaged = (raw for raw in _readable(folder, shard) if raw.key in good)
            record = write_samples(file, undamaged, split=shard.split)
            lost[shard.name] = shard.samples - record.samples
            if record.samples:
                kept.append(replace(record, name=shard.name))
        on_shard(shard.name)
    if not any(shard.split == "train" for shard in kept):
        for name in lost:
            (folder / f"{name}.repaired").unlink(missing_ok=True)
        raise UserError(f"no train sample of {folder} can be read; prepare it again")
    if lost:
        _replace_shards(folder, manifest, kept, lost)
    return lost


def _replace_shards(folder: Path, manifest: Manifest, kept: list[ShardRecord], lost: dict[str, int]) -> None:
    os.replace(folder / MANIFEST_NAME, folder / BEFORE)
    for name in lost:
        repaired = folder / f"{name}.repaired"
        if repaired.exists():
            os.replace(repaired, folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
        for old in (folder / f"{name}.idx", folder / RECORDS / f"{name}.json"):
            old.unlink(missing_ok=True)  # `shards` makes the shard again if it is asked to
    index_for_energon(folder, kept)
    before = manifest.options.get("lost", {})
    all_lost = {name: before.get(name, 0) + lost.get(name, 0) for name in before | lost}
    replace(manifest, shards=tuple(kept), options=manifest.options | {"lost": all_lost}).write(folder)
    (folder / BEFORE).unlink()


def _good_samples(folder: Path, manifest: Manifest, shard: ShardRecord, keys: dict[str, str]) -> set[str] | None:
    """Return the keys of the samples without a problem; None if the whole shard matches the manifest."""
    file = folder / shard.name
    whole = file.is_file() and file_sha256(file) == shard.sha256
    good = set()
    for raw in _readable(folder, shard):
        if any(check_sample(raw, manifest, keys, decode=True)):
            whole = False
        else:
            good.add(raw.key)
    return None if whole else good


def _readable(folder: Path, shard: ShardRecord) -> Iterator[RawSample]:
    """Read the samples of a shard up to where it is damaged; the last one may have lost parts."""
    try:
        yield from read_shard(folder, shard)
    except UserError:
        return

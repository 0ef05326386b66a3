"""Split a dataset anew into training and validation; samples keep their bytes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from cosmos_nemo.data.manifest import Manifest, ShardRecord, check_shards, read_manifest
from cosmos_nemo.errors import UserError
from data_prep.datasets.files import complete, new_dataset, write_samples
from data_prep.datasets.holdout import hold_out
from data_prep.datasets.reading import RawSample, read_dataset


def split_again(
    folder: Path,
    output: Path,
    *,
    val: float,
    seed: int,
    samples_per_shard: int,
    on_sample: Callable[[str], None] = lambda key: None,
) -> Manifest:
    """Make a dataset with the same samples, of which another share is held out, chosen by a hash of the source video.

    Args:
        folder: the dataset, which stays as it is.
        output: the new dataset's folder, which must not exist.
        val: share of the source videos held out.
        seed: of the choice.
        samples_per_shard: at most.
        on_sample: progress: called after each sample.

    Raises:
        UserError: the dataset is incomplete, the share is impossible, or the output exists.
    """
    manifest = read_manifest(folder)
    check_shards(folder, manifest)
    if samples_per_shard < 1:
        raise UserError(f"--samples-per-shard {samples_per_shard} must be at least 1")

    def identity(raw: RawSample) -> str:
        """Return what all samples of one video have in common, whatever its file is called."""
        return manifest.sources.get(raw.source, raw.source)

    held_out = hold_out({identity(raw) for raw in read_dataset(folder, manifest)}, val, seed)
    numbered = manifest.shards[0].name[0].isdigit()
    records: list[ShardRecord] = []
    with new_dataset(output) as place:
        for split in ("train", "val"):
            mine = (raw for raw in read_dataset(folder, manifest) if (identity(raw) in held_out) == (split == "val"))
            for index, group in enumerate(_groups(mine, samples_per_shard)):
                file = place / (f"{len(records):06d}.tar" if numbered else f"{split}-{index:06d}.tar")
                records.append(write_samples(file, _noted(group, on_sample), split=split))
        options = manifest.options | {"val_fraction": val, "split_seed": seed, "samples_per_shard": samples_per_shard}
        result = replace(manifest, shards=tuple(records), options=options)
        complete(place, result)
    return result


def _noted(samples: Iterator[RawSample], on_sample: Callable[[str], None]) -> Iterator[RawSample]:
    for raw in samples:
        yield raw
        on_sample(raw.key)


def _groups(samples: Iterator[RawSample], size: int) -> Iterator[Iterator[RawSample]]:
    """Give up to `size` samples at a time, read as they are needed."""
    for first in samples:

        def group(first: RawSample = first) -> Iterator[RawSample]:
            yield first
            for _ in range(size - 1):
                following = next(samples, None)
                if following is None:
                    return
                yield following

        yield group()

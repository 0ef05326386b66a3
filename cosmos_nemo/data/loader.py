"""Shards to batches through Megatron-Energon, whatever the samples are.

The dataset is "crude": Energon hands over the raw bytes of each part, `from_parts` reads them. Facts about Energon
7.4.1 that shape this file: a cooker that is not `@stateless` fails on every sample; `virtual_epoch_length` becomes a
Python list of that length; `get_train_dataset` never ends, so validation must come from `get_val_dataset`.
"""

import logging
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeAlias, TypeVar

import torch
import torch.distributed as dist
from megatron.energon import (
    Cooker,
    DefaultTaskEncoder,
    Sample,
    SkipSample,
    WorkerConfig,
    basic_sample_keys,
    edataclass,
    get_loader,
    get_savable_loader,
    get_train_dataset,
    get_val_dataset,
    stateless,
)
from megatron.energon.savable_loader import BasicDataLoader, SavableDataLoader
from torch.utils.data import DataLoader

from cosmos_nemo.data import bare
from cosmos_nemo.data.blend import open_blend, samples_per_reader
from cosmos_nemo.data.manifest import Manifest, check_shards, read_manifest
from cosmos_nemo.data.schema import SAMPLE_TYPES, SampleError, SampleT, from_parts
from cosmos_nemo.errors import UserError

logger = logging.getLogger(__name__)


BatchT = TypeVar("BatchT")


@edataclass
class CookedSample(Sample):
    """A sample of the schema wearing the fields that Energon needs to restore it."""

    content: Any


class SkippedSamples:
    """Counts the samples that could not be read, over all workers of this process.

    Each bad sample is logged once, with its shard and key.
    """

    limit_in_a_row = 100  # as Energon's own limit: beyond it the dataset is broken, not a sample

    def __init__(self) -> None:
        # Shared memory: Energon's workers are forked from this process.
        self._count = multiprocessing.get_context("fork").Value("q", 0)
        self._logged: set[str] = set()
        self._in_a_row = 0

    @property
    def count(self) -> int:
        """Samples skipped so far."""
        return int(self._count.value)

    def add(self, error: Exception, shard: str) -> None:
        """Count one bad sample.

        Raises:
            UserError: too many samples in a row were bad.
        """
        with self._count.get_lock():
            self._count.value += 1
        if str(error) not in self._logged:
            self._logged.add(str(error))
            logger.warning("skipped a sample of shard %s: %s", shard, error)
        self._in_a_row += 1
        if self._in_a_row >= self.limit_in_a_row:
            raise UserError(f"{self._in_a_row} samples in a row could not be read, the last in shard {shard}: {error}")

    def good(self) -> None:
        """Note that a sample could be read."""
        self._in_a_row = 0

    def on_error(self, error: Exception, sample: Any, sources: Any = None) -> None:
        """Energon's error handler: count what Energon itself could not read, let a `UserError` through."""
        if isinstance(error, UserError):
            raise error
        self.add(error, sources[0].shard_name if sources else "?")


class SampleTaskEncoder(DefaultTaskEncoder[Any, Any, Any, BatchT], Generic[SampleT, BatchT]):
    """Reads one kind of sample, skips and counts what cannot be read. A family adds `check` and `collate`."""

    decoder = None  # every part arrives as bytes; Energon's decoder would leave safetensors alone anyway
    sample_type: type[SampleT]

    def __init__(self, manifest: Manifest | None = None, skipped: SkippedSamples | None = None) -> None:
        """Make a task encoder.

        Args:
            manifest: of the dataset; None where there is none, the first sample then says what the others must be.
            skipped: counts the samples that cannot be read.
        """
        super().__init__()
        self.cookers = [Cooker(self.cook)]
        self.skipped = skipped or SkippedSamples()
        self._expected: dict[str, tuple[Any, str]] = {}
        if manifest is not None and SAMPLE_TYPES[manifest.kind] is not self.sample_type:
            wanted = next(kind for kind, sample_type in SAMPLE_TYPES.items() if sample_type is self.sample_type)
            raise UserError(
                f"the dataset holds {manifest.kind} samples (task {manifest.task}), this model reads {wanted} samples; "
                "prepare it with `python -m data_prep shards --for TASK` for the model's task"
            )

    def check(self, sample: SampleT, shard: str) -> None:
        """Compare a sample with the dataset; see `expect_same`.

        Raises:
            UserError: it does not fit. That is no damage but a wrong dataset, so it stops.
        """

    def collate(self, samples: list[SampleT]) -> BatchT:
        """Make a batch of samples."""
        raise NotImplementedError

    def expect(self, what: str, value: Any) -> None:
        """Note what the manifest says that samples have; None leaves it to the first sample."""
        if value is not None:
            self._expected[what] = (value, "the manifest")

    def expect_same(self, sample: SampleT, shard: str, what: str, found: Any, advice: str) -> None:
        """Stop at a sample that differs from the manifest, or else from the first one.

        Raises:
            UserError: names shard, sample, and both values.
        """
        expected, said_by = self._expected.setdefault(what, (found, f"the first sample {sample.key!r}"))
        if found != expected:
            raise UserError(
                f"shard {shard}, sample {sample.key!r}: {what} {found}, but {said_by} says {expected}{advice}"
            )

    @stateless
    def cook(self, raw: dict[str, Any]) -> CookedSample:
        """Turn the raw parts of one sample into a `CookedSample`; one that cannot be read is skipped and counted."""
        parts = {name: value for name, value in raw.items() if isinstance(value, bytes)}
        try:
            content = from_parts(raw["__key__"], parts, self.sample_type)
        except SampleError as error:
            self.skip(error, raw["__sources__"][0].shard_name)
        return CookedSample(**basic_sample_keys(raw), content=content)

    def skip(self, error: Exception, shard: str) -> NoReturn:
        """Leave out a sample that turned out to be unreadable, and count it."""
        self.skipped.add(error, shard)
        raise SkipSample from error

    @stateless
    def encode_sample(self, sample: CookedSample) -> Any:
        """Check the sample against the dataset; see `check`."""
        self.check(sample.content, shard_of(sample))
        self.skipped.good()
        return sample

    @stateless
    def batch(self, samples: list[Any]) -> BatchT:
        """See `collate`."""
        return self.collate([sample.content for sample in samples])


MakeTaskEncoder: TypeAlias = Callable[[Manifest | None, SkippedSamples], SampleTaskEncoder[Any, BatchT]]


def shard_of(sample: Sample) -> str:
    """Name of the tar that a sample comes from."""
    return sample.__sources__[0].shard_name if sample.__sources__ else "?"


def open_dataset(path: str | os.PathLike[str]) -> Manifest | None:
    """Check that `path` can be trained on, before anything expensive starts.

    Args:
        path: a folder made by `python -m data_prep shards`, a bare folder of tars (see `bare`), or the file of a blend
            (see `blend`).

    Returns: the folder's manifest; of a blend, what its datasets have in common; None for a bare folder, whose samples
        are checked one by one.

    Raises:
        UserError: it does not exist, is incomplete, or a shard is missing or truncated; or datasets cannot be mixed.
    """
    place = Path(path)
    if not place.exists():
        raise UserError(f"data path {place} does not exist; make it with `python -m data_prep shards`")
    if place.is_file():
        return open_blend(place)
    if bare.is_bare(place):
        bare.check_index(place)
        return None
    manifest = read_manifest(place)
    check_shards(place, manifest)
    return manifest


def train_loader(
    path: str | os.PathLike[str],
    make_encoder: MakeTaskEncoder[BatchT],
    *,
    dp_rank: int = 0,
    dp_size: int = 1,
    dp_group: dist.ProcessGroup | None = None,
    micro_batch_size: int = 1,
    num_workers: int = 0,
    shuffle_buffer_size: int | None = None,
    seed: int = 0,
    skipped: SkippedSamples | None = None,
) -> SavableDataLoader[BatchT]:
    """An endless, shuffled loader whose position can be saved and restored.

    All ranks that share one data-parallel rank (tensor, context, pipeline parallel) read the same batches.

    Args:
        path: see `open_dataset`.
        make_encoder: how samples become batches: a class of task encoder, or a function that makes one.
        dp_rank: rank among the data-parallel processes, not the global rank.
        dp_size: data-parallel processes.
        dp_group: their process group; None outside torch.distributed.
        micro_batch_size: samples per batch.
        num_workers: reading processes per rank; 0 reads in this process.
        shuffle_buffer_size: None shuffles all samples of the rank, each exactly once per epoch, at one seek per sample.
            A number adds a buffer of so many samples (10 MB each at 720p); an epoch is then only approximate.
        seed: of the shuffle.
        skipped: counts unreadable samples; read its `count` for metrics.

    Raises:
        UserError: see `open_dataset`; also from iteration when a sample has another size than the manifest says.
    """
    manifest = open_dataset(path)
    if manifest is not None and manifest.num_samples("train") == 0:
        raise UserError(f"{path} has no train samples; prepare it with a smaller --val-fraction or more videos")
    skipped = skipped or SkippedSamples()
    dataset = get_train_dataset(
        path,
        worker_config=_worker_config(dp_rank, dp_size, dp_group, num_workers, seed, skipped),
        batch_size=micro_batch_size,
        shuffle_buffer_size=shuffle_buffer_size,
        max_samples_per_sequence=1,
        task_encoder=make_encoder(manifest, skipped),
    )
    loader = get_savable_loader(dataset)
    _pin_only_for_accelerators(loader)
    return loader


def val_loader(
    path: str | os.PathLike[str],
    make_encoder: MakeTaskEncoder[BatchT],
    *,
    dp_rank: int = 0,
    dp_size: int = 1,
    dp_group: dist.ProcessGroup | None = None,
    micro_batch_size: int = 1,
    num_workers: int = 0,
    limit_batches: int | None = None,
    skipped: SkippedSamples | None = None,
) -> BasicDataLoader[BatchT] | None:
    """A loader over the val split in fixed order, which ends and can be iterated again.

    Every rank gets the same number of batches, so that no rank waits for another; up to one sample per worker is
    left out for it.

    Args: see `train_loader`; `limit_batches` is per rank.

    Returns: None when there is no val split or it has fewer samples than workers over all ranks.
    """
    manifest = open_dataset(path)
    limit = limit_batches
    samples = manifest.num_samples("val") if manifest is not None else None
    if manifest is None and Path(path).is_dir():
        samples = bare.count_samples(Path(path), "val")
    if samples is not None:
        workers = max(1, num_workers)
        readers = dp_size * workers
        blended = Path(path).is_file()
        per_worker = samples_per_reader(path, "val", readers) if blended else samples // readers
        if per_worker == 0:
            logger.warning("%s has too few val samples for %d readers: no validation", path, dp_size * workers)
            return None
        equal = workers * -(-per_worker // micro_batch_size)
        limit = equal if limit is None else min(limit, equal)
    skipped = skipped or SkippedSamples()
    dataset = get_val_dataset(
        path,
        worker_config=_worker_config(dp_rank, dp_size, dp_group, num_workers, 0, skipped),
        batch_size=micro_batch_size,
        limit=limit,
        task_encoder=make_encoder(manifest, skipped),
    )
    loader = get_loader(dataset)
    _pin_only_for_accelerators(loader)
    return loader


def _worker_config(
    dp_rank: int,
    dp_size: int,
    dp_group: dist.ProcessGroup | None,
    num_workers: int,
    seed: int,
    skipped: SkippedSamples,
) -> WorkerConfig:
    return WorkerConfig(
        rank=dp_rank,
        world_size=dp_size,
        num_workers=num_workers,
        data_parallel_group=dp_group,
        seed_offset=seed,
        global_error_handler=skipped.on_error,
    )


def _pin_only_for_accelerators(loader: DataLoader[Any]) -> None:
    # Energon always asks for pinned memory; without an accelerator torch warns about it at every iteration.
    loader.pin_memory = torch.cuda.is_available()

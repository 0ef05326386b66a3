"""Shards to batches through Megatron-Energon.

The dataset is "crude": Energon hands over the raw bytes of each part, `from_parts` reads them. Facts about Energon
7.4.1 that shape this file: a cooker that is not `@stateless` fails on every sample; `virtual_epoch_length` becomes a
Python list of that length; `get_train_dataset` never ends, so validation must come from `get_val_dataset`.
"""

import logging
import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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

from cosmos_nemo.data.batch import DiffusionBatch, collate
from cosmos_nemo.data.schema import (
    DiffusionSample,
    Manifest,
    SampleError,
    check_shards,
    from_parts,
    read_manifest,
)
from cosmos_nemo.errors import UserError

logger = logging.getLogger(__name__)


@edataclass
class CookedSample(Sample):
    """A `DiffusionSample` wearing the fields that Energon needs to restore it."""

    diffusion: DiffusionSample


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


class DiffusionTaskEncoder(DefaultTaskEncoder[Any, Any, Any, DiffusionBatch]):
    """Makes `DiffusionBatch`es of the samples of one dataset."""

    decoder = None  # every part arrives as bytes; Energon's decoder would leave safetensors alone anyway

    def __init__(
        self,
        *,
        text_length: int,
        latent_shape: Sequence[int] | None = None,
        text_width: int | None = None,
        skipped: SkippedSamples | None = None,
    ) -> None:
        """Make a task encoder.

        Args:
            text_length: tokens of every text embedding in a batch, 512 for the published models.
            latent_shape: (C, T, H, W) that every sample must have; None takes that of the first sample.
            text_width: E that every sample must have; None takes that of the first sample.
            skipped: counts the samples that cannot be read.
        """
        super().__init__()
        self.cookers = [Cooker(self.cook)]
        self._skipped = skipped or SkippedSamples()
        self.text_length = text_length
        self._latent_shape = None if latent_shape is None else tuple(latent_shape)
        self._text_width = text_width
        self._said_by = "the manifest"

    @stateless
    def cook(self, raw: dict[str, Any]) -> CookedSample:
        """Turn the raw parts of one sample into a `CookedSample`; one that cannot be read is skipped and counted."""
        parts = {name: value for name, value in raw.items() if isinstance(value, bytes)}
        try:
            diffusion = from_parts(raw["__key__"], parts)
        except SampleError as error:
            self._skipped.add(error, raw["__sources__"][0].shard_name)
            raise SkipSample from error
        self._skipped.good()
        return CookedSample(**basic_sample_keys(raw), diffusion=diffusion)

    @stateless
    def encode_sample(self, sample: CookedSample) -> CookedSample:
        """Check the sample against the dataset.

        Raises:
            UserError: it has another latent size or text width. That is no damage but a wrong dataset, so it stops.
        """
        found_shape = tuple(sample.diffusion.latent_C_T_H_W.shape)
        found_width = sample.diffusion.text_L_E.shape[1]
        if self._latent_shape is None or self._text_width is None:
            self._latent_shape = self._latent_shape or found_shape
            self._text_width = self._text_width or found_width
            self._said_by = f"the first sample {sample.__key__!r}"
        if found_shape != self._latent_shape:
            raise UserError(
                f"shard {_shard(sample)}, sample {sample.__key__!r}: latent size {found_shape}, but {self._said_by} "
                f"says {self._latent_shape} (C, T, H, W); prepare all clips with one size and frame count"
            )
        if found_width != self._text_width:
            raise UserError(
                f"shard {_shard(sample)}, sample {sample.__key__!r}: text width {found_width}, but {self._said_by} "
                f"says {self._text_width}; prepare all captions with one text encoder"
            )
        return sample

    @stateless
    def batch(self, samples: list[CookedSample]) -> DiffusionBatch:
        """Collate samples; see `collate`."""
        return collate([sample.diffusion for sample in samples], text_length=self.text_length)


def _shard(sample: Sample) -> str:
    return sample.__sources__[0].shard_name if sample.__sources__ else "?"


def open_dataset(path: str | os.PathLike[str]) -> Manifest | None:
    """Check that `path` can be trained on, before anything expensive starts.

    Args:
        path: a folder made by `python -m data_prep shards`, or the yaml file of an Energon Metadataset.

    Returns: the folder's manifest; None for a yaml file, whose parts are checked sample by sample.

    Raises:
        UserError: it does not exist, is incomplete, or a shard is missing or truncated.
    """
    place = Path(path)
    if not place.exists():
        raise UserError(f"data path {place} does not exist; make it with `python -m data_prep shards`")
    if place.is_file():
        return None
    manifest = read_manifest(place)
    check_shards(place, manifest)
    return manifest


def train_loader(
    path: str | os.PathLike[str],
    *,
    dp_rank: int = 0,
    dp_size: int = 1,
    dp_group: dist.ProcessGroup | None = None,
    micro_batch_size: int = 1,
    num_workers: int = 0,
    shuffle_buffer_size: int | None = None,
    seed: int = 0,
    text_length: int = 512,
    skipped: SkippedSamples | None = None,
) -> SavableDataLoader[DiffusionBatch]:
    """An endless, shuffled loader whose position can be saved and restored.

    All ranks that share one data-parallel rank (tensor, context, pipeline parallel) read the same batches.

    Args:
        path: see `open_dataset`.
        dp_rank: rank among the data-parallel processes, not the global rank.
        dp_size: data-parallel processes.
        dp_group: their process group; None outside torch.distributed.
        micro_batch_size: samples per batch.
        num_workers: reading processes per rank; 0 reads in this process.
        shuffle_buffer_size: None shuffles all samples of the rank, each exactly once per epoch, at one seek per sample.
            A number adds a buffer of so many samples (10 MB each at 720p); an epoch is then only approximate.
        seed: of the shuffle.
        text_length: tokens of every text embedding in a batch.
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
        task_encoder=_task_encoder(manifest, text_length, skipped),
    )
    loader = get_savable_loader(dataset)
    _pin_only_for_accelerators(loader)
    return loader


def val_loader(
    path: str | os.PathLike[str],
    *,
    dp_rank: int = 0,
    dp_size: int = 1,
    dp_group: dist.ProcessGroup | None = None,
    micro_batch_size: int = 1,
    num_workers: int = 0,
    text_length: int = 512,
    limit_batches: int | None = None,
    skipped: SkippedSamples | None = None,
) -> BasicDataLoader[DiffusionBatch] | None:
    """A loader over the val split in fixed order, which ends and can be iterated again.

    Every rank gets the same number of batches, so that no rank waits for another; up to one sample per worker is
    left out for it.

    Args: see `train_loader`; `limit_batches` is per rank.

    Returns: None when there is no val split or it has fewer samples than workers over all ranks.
    """
    manifest = open_dataset(path)
    limit = limit_batches
    if manifest is not None:
        workers = max(1, num_workers)
        per_worker = manifest.num_samples("val") // (dp_size * workers)
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
        task_encoder=_task_encoder(manifest, text_length, skipped),
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


def _task_encoder(manifest: Manifest | None, text_length: int, skipped: SkippedSamples) -> DiffusionTaskEncoder:
    return DiffusionTaskEncoder(
        text_length=text_length,
        latent_shape=None if manifest is None else manifest.latent_shape,
        text_width=None if manifest is None else manifest.text_width,
        skipped=skipped,
    )

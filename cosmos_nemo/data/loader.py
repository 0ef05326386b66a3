"""Loaders over shards through Megatron-Energon, whatever the samples are.

Facts about Energon 7.4.1 that shape this file: `virtual_epoch_length` becomes a Python list of that length;
`get_train_dataset` never ends, so validation must come from `get_val_dataset`.
"""

import logging
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from megatron.energon import WorkerConfig, get_loader, get_savable_loader, get_train_dataset, get_val_dataset
from megatron.energon.savable_loader import BasicDataLoader, SavableDataLoader
from torch.utils.data import DataLoader

from cosmos_nemo.data.blend import samples_per_reader
from cosmos_nemo.data.dataset import count_samples, open_manifest
from cosmos_nemo.data.encoders import BatchT, MakeTaskEncoder, SkippedSamples
from cosmos_nemo.errors import UserError

logger = logging.getLogger(__name__)


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
        path: see `dataset.open_manifest`.
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
        UserError: see `dataset.open_manifest`; also from iteration, when a sample has another size than the manifest
            says.
    """
    manifest = open_manifest(path)
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
    manifest = open_manifest(path)
    workers = max(1, num_workers)
    readers = dp_size * workers
    blended = Path(path).is_file()
    per_worker = (
        samples_per_reader(path, "val", readers) if blended else count_samples(path, manifest, "val") // readers
    )
    if per_worker == 0:
        logger.warning("%s has too few val samples for %d readers: no validation", path, readers)
        return None
    equal = workers * -(-per_worker // micro_batch_size)
    skipped = skipped or SkippedSamples()
    dataset = get_val_dataset(
        path,
        worker_config=_worker_config(dp_rank, dp_size, dp_group, num_workers, 0, skipped),
        batch_size=micro_batch_size,
        limit=equal if limit_batches is None else min(limit_batches, equal),
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

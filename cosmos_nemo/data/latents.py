"""Shards of latents and text embeddings to `DiffusionBatch`es."""

import functools
import os
from typing import Any

from megatron.energon.savable_loader import BasicDataLoader, SavableDataLoader

from cosmos_nemo.data import loader
from cosmos_nemo.data.batch import DiffusionBatch, collate
from cosmos_nemo.data.loader import SampleTaskEncoder, SkippedSamples, open_dataset
from cosmos_nemo.data.manifest import Manifest
from cosmos_nemo.data.schema import DiffusionSample

__all__ = ["DiffusionTaskEncoder", "SkippedSamples", "open_dataset", "train_loader", "val_loader"]


class DiffusionTaskEncoder(SampleTaskEncoder[DiffusionSample, DiffusionBatch]):
    """Makes `DiffusionBatch`es of the samples of one dataset."""

    sample_type = DiffusionSample

    def __init__(
        self, manifest: Manifest | None = None, skipped: SkippedSamples | None = None, *, text_length: int = 512
    ) -> None:
        """Make a task encoder.

        Args:
            manifest: see `SampleTaskEncoder`; also `skipped`.
            skipped: counts the samples that cannot be read.
            text_length: tokens of every text embedding in a batch, 512 for the published models.
        """
        super().__init__(manifest, skipped)
        self.text_length = text_length
        if manifest is not None:
            self.expect("latent size", manifest.latent_shape)
            self.expect("text width", manifest.text_width)

    def check(self, sample: DiffusionSample, shard: str) -> None:
        """Refuse another latent size or text width than the dataset has."""
        shape, width = tuple(sample.latent_C_T_H_W.shape), sample.text_L_E.shape[1]
        advice = " (C, T, H, W); prepare all clips with one size and frame count"
        self.expect_same(sample, shard, "latent size", shape, advice)
        self.expect_same(sample, shard, "text width", width, "; prepare all captions with one text encoder")

    def collate(self, samples: list[DiffusionSample]) -> DiffusionBatch:
        """See `batch.collate`."""
        return collate(samples, text_length=self.text_length)


def train_loader(
    path: str | os.PathLike[str], *, text_length: int = 512, **reading: Any
) -> SavableDataLoader[DiffusionBatch]:
    """`loader.train_loader` for diffusion models.

    Args:
        path: see `open_dataset`.
        text_length: tokens of every text embedding in a batch.
        reading: the keyword arguments of `loader.train_loader`.
    """
    return loader.train_loader(path, functools.partial(DiffusionTaskEncoder, text_length=text_length), **reading)


def val_loader(
    path: str | os.PathLike[str], *, text_length: int = 512, **reading: Any
) -> BasicDataLoader[DiffusionBatch] | None:
    """`loader.val_loader` for diffusion models; arguments as for `train_loader`."""
    return loader.val_loader(path, functools.partial(DiffusionTaskEncoder, text_length=text_length), **reading)

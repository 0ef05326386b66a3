"""Shards of latents and text embeddings to `DiffusionBatch`es."""

from collections.abc import Sequence

import torch

from cosmos_nemo.data.batch import DiffusionBatch, pad_texts
from cosmos_nemo.data.encoders import SampleTaskEncoder, SkippedSamples
from cosmos_nemo.data.manifest import Manifest
from cosmos_nemo.data.schema import DiffusionSample, sample_id


def collate(samples: Sequence[DiffusionSample], *, text_length: int) -> DiffusionBatch:
    """Make a batch of samples whose latents have one shape.

    Args:
        samples: at least one.
        text_length: tokens of every text embedding in the batch.
    """
    latent = torch.stack([s.latent_C_T_H_W.float() for s in samples])
    return DiffusionBatch(
        latent_B_C_T_H_W=latent,
        crossattn_emb_B_L_E=pad_texts([s.text_L_E for s in samples], text_length)[0],
        fps_B=torch.tensor([s.info.fps for s in samples], dtype=torch.float32),
        padding_mask_B_1_H_W=torch.zeros(len(samples), 1, *latent.shape[-2:]),
        sample_id_B=torch.tensor([sample_id(s.key) for s in samples], dtype=torch.int64),
        keys=[s.key for s in samples],
    )


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
        """See the function of that name."""
        return collate(samples, text_length=self.text_length)

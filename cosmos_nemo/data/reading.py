"""How a data set reaches one model: what is cut out of videos, how samples become batches, what is encoded when."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from cosmos_nemo.data.batch import SampleBatch, VideoBatch
from cosmos_nemo.data.captioned_video import CaptionedVideoTaskEncoder
from cosmos_nemo.data.clip_encoding import CLIP_ENCODERS, ClipEncoder
from cosmos_nemo.data.dataset import Dataset, cut_out, open_dataset
from cosmos_nemo.data.encoders import SampleTaskEncoder, SkippedSamples
from cosmos_nemo.data.latents import DiffusionTaskEncoder
from cosmos_nemo.data.manifest import Manifest
from cosmos_nemo.data.raw_video import RawVideoTaskEncoder
from cosmos_nemo.data.tokens import TokenTaskEncoder
from cosmos_nemo.data.window import ClipWindow
from cosmos_nemo.errors import UserError


@dataclass(kw_only=True)
class Reading:
    """What a model reads, and the settings of how it is made of samples."""

    kind: str
    """latent, tokens or video: what the model reads. Video files are encoded where it does not read them as such."""
    text_length: int | None = None
    """Tokens every text embedding is padded to; None leaves text out."""
    window: ClipWindow | None = None
    """What is cut out of video files."""
    val_window: ClipWindow | None = None
    """The same for validation, for which nothing in it is random; None takes the sizes of `window`."""
    tokenizer_path: str | None = None
    """The video tokenizer that encodes video files."""
    seed: int = 0
    """Of the cuts."""

    def open(self, path: str, *, field: str = "data.path") -> Dataset:
        """Look at a dataset that is trained on.

        Raises:
            UserError: it is incomplete or truncated, or holds video files and settings that they need are missing.
        """
        return self._open(path, field, self.window, "data.window")

    def open_val(self, path: str, *, field: str = "data.val_path") -> Dataset:
        """The same of a dataset that is validated on."""
        if self.val_window is not None:
            return self._open(path, field, self.val_window, "data.val_window")
        return self._open(path, field, self.window, "data.window")

    def _open(self, path: str, field: str, window: ClipWindow | None, window_field: str) -> Dataset:
        dataset = replace(open_dataset(path, field=field), text_length=self.text_length)
        if dataset.kind != "video":
            return dataset
        encodes = self.kind != "video"
        if window is None or (encodes and not self.tokenizer_path):
            raise UserError(self._what_video_needs(field))
        dataset = cut_out(dataset, window, field=window_field)
        return self.clip_encoder.describe(dataset) if encodes else dataset

    def _what_video_needs(self, field: str) -> str:
        if self.kind == "video":
            return "data.window is not set; say what is cut out of the video files."
        encoder = CLIP_ENCODERS[self.kind]
        return (
            f"{field} holds video files: set data.tokenizer_path to a video tokenizer that makes {encoder.makes}, and "
            f"data.window to what is cut out of them, or prepare {encoder.makes} with `{encoder.command}`."
        )

    @cached_property
    def clip_encoder(self) -> ClipEncoder:
        """What encodes video files.

        Raises:
            UserError: there is no tokenizer at `tokenizer_path`, or one that makes something else.
        """
        assert self.tokenizer_path
        return CLIP_ENCODERS[self.kind](self.tokenizer_path)

    def task_encoder(self, manifest: Manifest | None, skipped: SkippedSamples) -> SampleTaskEncoder[Any, Any]:
        """What makes batches for training; see `loader.train_loader`."""
        return self._task_encoder(manifest, skipped, self.window)

    def val_task_encoder(self, manifest: Manifest | None, skipped: SkippedSamples) -> SampleTaskEncoder[Any, Any]:
        """The same for validation: clips from the middle of the files."""
        window = self.val_window or self.window
        return self._task_encoder(manifest, skipped, window and window.still())

    def _task_encoder(
        self, manifest: Manifest | None, skipped: SkippedSamples, window: ClipWindow | None
    ) -> SampleTaskEncoder[Any, Any]:
        length = self.text_length
        if manifest is None or manifest.kind == "video":
            assert window is not None, "checked when the dataset was opened"
            if length is None:
                return RawVideoTaskEncoder(manifest, skipped, window=window, seed=self.seed)
            return CaptionedVideoTaskEncoder(manifest, skipped, window=window, seed=self.seed, text_length=length)
        if self.kind == "latent":
            assert length is not None, "checked with the model"
            return DiffusionTaskEncoder(manifest, skipped, text_length=length)
        return TokenTaskEncoder(manifest, skipped, text_length=length)

    def finish(self, batch: SampleBatch) -> SampleBatch:
        """Do what is left to be done to a batch in the training process, with its accelerator."""
        if self.kind == "video" or not isinstance(batch, VideoBatch):
            return batch
        device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else "cpu"
        return self.clip_encoder.encode(batch, device)

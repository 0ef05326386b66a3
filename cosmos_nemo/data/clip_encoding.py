"""Clips of video files to what a model reads, in the training process: latents or token ids."""

from __future__ import annotations

import abc
import os
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from cosmos_nemo.data.batch import CaptionedVideoBatch, DiffusionBatch, SampleBatch, TokenBatch, VideoBatch
from cosmos_nemo.data.dataset import Dataset
from cosmos_nemo.data.manifest import EncoderRef
from cosmos_nemo.errors import UserError
from cosmos_nemo.files import file_sha256
from cosmos_nemo.tokenizers.load import is_discrete, load_video_tokenizer


class ClipEncoder(abc.ABC):
    """Turns batches of clips into batches of another kind.

    Args:
        path: the video tokenizer.

    Raises:
        UserError: there is none, or one that makes something else.
    """

    kind: ClassVar[str]
    """Of the samples that are made: latent or tokens."""
    makes: ClassVar[str]
    """The same for people."""
    command: ClassVar[str]
    """What makes them beforehand."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.tokenizer: Any = load_video_tokenizer(path)
        if is_discrete(self.tokenizer) != (self.kind == "tokens"):
            other = "token ids" if is_discrete(self.tokenizer) else "latents"
            raise UserError(f"data.tokenizer_path={path} makes {other}, and this model reads {self.makes}.")

    def describe(self, dataset: Dataset) -> Dataset:
        """The dataset that the clips of `dataset` become.

        Raises:
            UserError: their size or number of frames does not fit the tokenizer.
        """
        window, field, side = dataset.window, dataset.window_field, self.tokenizer.spatial_compression
        assert window is not None
        for name in ("height", "width"):
            value = getattr(window, name)
            if value % side:
                raise UserError(f"{field}.{name}={value} must be a multiple of {side}, the tokenizer's compression.")
        try:
            frames = self.tokenizer.latent_frames(window.num_frames)
        except UserError as error:
            raise UserError(f"{field}: {error}.") from error
        digest = file_sha256(*self.tokenizer.files)
        return replace(
            dataset,
            kind=self.kind,
            encoded_in_training=True,
            video_tokenizer=EncoderRef(path=str(self.tokenizer.path.resolve()), sha256=digest),
            **self.facts((frames, window.height // side, window.width // side)),
        )

    @abc.abstractmethod
    def facts(self, shape_T_H_W: tuple[int, int, int]) -> dict[str, Any]:
        """The fields of a `Dataset` that say what is made, of clips with this shape behind the tokenizer."""

    @torch.no_grad()
    def encode(self, batch: VideoBatch, device: torch.device | str = "cpu") -> SampleBatch:
        """Encode a batch, one clip at a time for the sake of memory.

        Args:
            batch: clips, with texts where the model reads some.
            device: where it is done.
        """
        # The device of a rank is known now, and was not when the tokenizer was opened.
        self.tokenizer = self.tokenizer.to(device)
        batch = batch.to(device)
        return self.made(batch, torch.cat([self.tokenizer.encode(clip) for clip in batch.pixels().split(1)]))

    @abc.abstractmethod
    def made(self, batch: VideoBatch, encoded: Tensor) -> SampleBatch:
        """The batch of what the clips became."""


class LatentEncoder(ClipEncoder):
    """Clips with texts to `DiffusionBatch`es."""

    kind = "latent"
    makes = "latents"
    command = "python -m data_prep shards --for v2w"

    def facts(self, shape_T_H_W: tuple[int, int, int]) -> dict[str, Any]:
        """See `ClipEncoder`."""
        return {"latent_shape": (self.tokenizer.latent_channels, *shape_T_H_W)}

    def made(self, batch: VideoBatch, encoded: Tensor) -> DiffusionBatch:
        """See `ClipEncoder`; as shards hold latents, so also rounded to bfloat16."""
        assert isinstance(batch, CaptionedVideoBatch)
        return DiffusionBatch(
            latent_B_C_T_H_W=encoded.to(torch.bfloat16).float(),
            crossattn_emb_B_L_E=batch.crossattn_emb_B_L_E,
            fps_B=batch.fps_B,
            padding_mask_B_1_H_W=torch.zeros(batch.batch_size, 1, *encoded.shape[-2:]),
            sample_id_B=batch.sample_id_B,
            keys=batch.keys,
        )


class TokenEncoder(ClipEncoder):
    """Clips, with texts or without, to `TokenBatch`es."""

    kind = "tokens"
    makes = "token ids"
    command = "python -m data_prep shards --for ar"

    def facts(self, shape_T_H_W: tuple[int, int, int]) -> dict[str, Any]:
        """See `ClipEncoder`."""
        return {"token_shape": shape_T_H_W, "vocab_size": self.tokenizer.vocab_size}

    def made(self, batch: VideoBatch, encoded: Tensor) -> TokenBatch:
        """See `ClipEncoder`."""
        captioned = batch if isinstance(batch, CaptionedVideoBatch) else None
        return TokenBatch(
            tokens_B_T_H_W=encoded.long(),
            crossattn_emb_B_L_E=captioned.crossattn_emb_B_L_E if captioned else None,
            text_mask_B_L=captioned.text_mask_B_L if captioned else None,
            fps_B=batch.fps_B,
            sample_id_B=batch.sample_id_B,
            keys=batch.keys,
        )


CLIP_ENCODERS: dict[str, type[ClipEncoder]] = {encoder.kind: encoder for encoder in (LatentEncoder, TokenEncoder)}
"""By the kind of samples that a model reads."""

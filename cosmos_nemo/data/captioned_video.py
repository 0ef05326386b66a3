"""Raw video with text embeddings to batches that are encoded in training: what `data_prep shards --raw` wrote.

The clip of a file is another one in every pass over the data; see `raw_video`.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from megatron.energon import stateless
from torch import Tensor

from cosmos_nemo.data.batch import DiffusionBatch, pad_texts
from cosmos_nemo.data.loader import SkippedSamples, shard_of
from cosmos_nemo.data.manifest import EncoderRef, Manifest
from cosmos_nemo.data.raw_video import Clip, ClipWindow, CookedVideo, CutVideo, RawVideoTaskEncoder, VideoBatch
from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.base import VideoTokenizer, latent_frames


@dataclass(kw_only=True)
class CaptionedVideoBatch(VideoBatch):
    """Clips with the embeddings of their captions."""

    crossattn_emb_B_L_E: Tensor  # zero padded to the text length, float32
    text_mask_B_L: Tensor  # True where it is not padding


@dataclass(frozen=True, kw_only=True)
class CaptionedClip:
    """A decoded clip and the embedding of its caption."""

    clip: Clip
    text_L_E: Tensor


class CaptionedVideoTaskEncoder(RawVideoTaskEncoder):
    """Makes `CaptionedVideoBatch`es of video files with text embeddings."""

    def __init__(
        self,
        manifest: Manifest | None = None,
        skipped: SkippedSamples | None = None,
        *,
        window: ClipWindow,
        seed: int = 0,
        text_length: int = 512,
    ) -> None:
        """Make a task encoder; see `RawVideoTaskEncoder`.

        Args:
            manifest: of the dataset.
            skipped: counts the samples that cannot be read.
            window: what is cut out of every file.
            seed: of what is random about it.
            text_length: tokens of every text embedding in a batch.
        """
        super().__init__(manifest, skipped, window=window, seed=seed)
        self.text_length = text_length
        if manifest is not None:
            self.expect("text width", manifest.text_width)

    @stateless
    def encode_sample(self, sample: CookedVideo) -> CutVideo:
        """Cut a clip out of a file, and keep its text.

        Raises:
            UserError: there is no text embedding, or one of another width.
        """
        text_L_E, shard = sample.content.text_L_E, shard_of(sample)
        if text_L_E is None:
            raise UserError(
                f"shard {shard}, sample {sample.__key__!r} has no text embedding; prepare the shards with "
                "`--raw --text-encoder PATH`"
            )
        advice = "; prepare all captions with one text encoder"
        self.expect_same(sample.content, shard, "text width", text_L_E.shape[1], advice)
        cut = super().encode_sample(sample)
        cut.content = CaptionedClip(clip=cut.content, text_L_E=text_L_E)
        return cut

    def collate(self, samples: list[CaptionedClip]) -> CaptionedVideoBatch:  # type: ignore[override]  # see above
        """Stack clips and their texts."""
        video = super().collate([sample.clip for sample in samples])
        text, mask = pad_texts([sample.text_L_E for sample in samples], self.text_length)
        return CaptionedVideoBatch(**vars(video), crossattn_emb_B_L_E=text, text_mask_B_L=mask)


def encode_batch(batch: CaptionedVideoBatch, tokenizer: VideoTokenizer) -> DiffusionBatch:
    """Encode clips, one at a time for the sake of memory; as shards hold them, so also rounded to bfloat16."""
    latents = [tokenizer.encode(pixels_1_3_T_H_W) for pixels_1_3_T_H_W in batch.pixels().split(1)]
    latent_B_C_T_H_W = torch.cat(latents).to(torch.bfloat16).float()
    return DiffusionBatch(
        latent_B_C_T_H_W=latent_B_C_T_H_W,
        crossattn_emb_B_L_E=batch.crossattn_emb_B_L_E,
        fps_B=batch.fps_B,
        padding_mask_B_1_H_W=torch.zeros(batch.batch_size, 1, *latent_B_C_T_H_W.shape[-2:]),
        sample_id_B=batch.sample_id_B,
        keys=batch.keys,
    )


def as_latents(manifest: Manifest, window: ClipWindow, tokenizer: VideoTokenizer, ref: EncoderRef) -> Manifest:
    """What the dataset looks like to a model once its clips are encoded.

    Args:
        manifest: of raw video.
        window: what is cut out of every file.
        tokenizer: encodes it.
        ref: path and hash of the tokenizer.

    Raises:
        UserError: the window does not fit the tokenizer.
    """
    side = tokenizer.spatial_compression
    for name in ("height", "width"):
        value = getattr(window, name)
        if value % side:
            raise UserError(f"data.window.{name}={value} must be a multiple of {side}, the tokenizer's compression")
    frames = latent_frames(window.num_frames, tokenizer.temporal_compression)
    shape = (tokenizer.latent_channels, frames, window.height // side, window.width // side)
    sizes: dict[str, Any] = {"num_frames": window.num_frames, "height": window.height, "width": window.width}
    return replace(manifest, latent_shape=shape, latent_dtype="bfloat16", video_tokenizer=ref, **sizes)

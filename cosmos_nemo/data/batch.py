"""Batches: what training steps consume, and text embeddings padded to one length."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from cosmos_nemo.media.pictures import to_unit


@dataclass(kw_only=True)
class SampleBatch:
    """Tensors of some samples, and which samples they are. A family's batch adds its fields."""

    sample_id_B: Tensor  # identity of each sample for keyed randomness, int64
    keys: list[str]  # the samples' names in the shards

    @property
    def batch_size(self) -> int:
        """Samples in the batch."""
        return len(self.keys)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """A copy of the batch with its tensors on `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """A copy of the batch in page-locked memory; called by torch's data loader where there is a GPU."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        changed: dict[str, Any] = {n: function(v) for n, v in values.items() if isinstance(v, Tensor)}
        return replace(self, **changed)


@dataclass(kw_only=True)
class DiffusionBatch(SampleBatch):
    """Latents and texts: what diffusion models are trained on."""

    latent_B_C_T_H_W: Tensor  # clean normalised latents x0, float32
    crossattn_emb_B_L_E: Tensor  # text embeddings, zero padded to the text length, float32
    fps_B: Tensor  # frames per second, float32; 0 for images
    padding_mask_B_1_H_W: Tensor  # 1 where the picture is padding, at latent size, float32; zeros

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """(C, T, H, W) of the samples."""
        C, T, H, W = self.latent_B_C_T_H_W.shape[1:]
        return C, T, H, W


@dataclass(kw_only=True)
class TokenBatch(SampleBatch):
    """Token ids, and texts for the models that read them."""

    tokens_B_T_H_W: Tensor  # ids of the video tokenizer, int64
    crossattn_emb_B_L_E: Tensor | None  # text embeddings, zero padded, float32; None for models without text
    text_mask_B_L: Tensor | None  # True where the text embedding is not padding
    fps_B: Tensor  # frames per second, float32

    @property
    def token_shape(self) -> tuple[int, int, int]:
        """(T, H, W) of the samples."""
        T, H, W = self.tokens_B_T_H_W.shape[1:]
        return T, H, W


@dataclass(kw_only=True)
class VideoBatch(SampleBatch):
    """Clips as they come from files."""

    video_B_3_T_H_W: Tensor  # RGB, uint8
    fps_B: Tensor  # frames per second of the clips, the stride taken into account; 0 for pictures
    start_B: Tensor  # index of the clip's first frame in its file, int64

    def pixels(self) -> Tensor:
        """The clips as networks take them: RGB in [-1, 1], float32, [B, 3, T, H, W]."""
        return to_unit(self.video_B_3_T_H_W)


@dataclass(kw_only=True)
class CaptionedVideoBatch(VideoBatch):
    """Clips with the embeddings of their captions."""

    crossattn_emb_B_L_E: Tensor  # zero padded to the text length, float32
    text_mask_B_L: Tensor  # True where it is not padding


def pad_text(text_L_E: Tensor, text_length: int) -> Tensor:
    """Zero pad a text embedding at its end, or cut it, to `text_length` tokens.

    The models attend to the padding, so its length is part of what they were trained on.

    Args:
        text_L_E: embedding, shape [L, E].
        text_length: tokens wanted.

    Returns: shape [text_length, E], float32.
    """
    padded = torch.zeros(text_length, text_L_E.shape[1])
    kept = min(text_length, text_L_E.shape[0])
    padded[:kept] = text_L_E[:kept]
    return padded


def pad_texts(texts: Sequence[Tensor], text_length: int) -> tuple[Tensor, Tensor]:
    """Stack text embeddings [L, E] of any lengths; see `pad_text`.

    Returns: the embeddings, shape [B, text_length, E], float32, and a mask, shape [B, text_length], True on the tokens
        that are not padding.
    """
    lengths = torch.tensor([len(text) for text in texts])
    mask_B_L = torch.arange(text_length)[None] < lengths[:, None]
    return torch.stack([pad_text(text, text_length) for text in texts]), mask_B_L

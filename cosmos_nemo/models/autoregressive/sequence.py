"""From a video's token ids to the sequence a network reads, and back."""

from __future__ import annotations

import torch
from torch import Tensor

from cosmos_nemo.models.autoregressive.config import ARConfig


def to_sequence(tokens_B_T_H_W: Tensor, config: ARConfig) -> Tensor:
    """Flattens ids (t slowest, w fastest) and puts the begin of the video in front, for networks that have one.

    The begin is the first id after the video's: 64000 in the published networks.

    Returns:
        [B, S], int64.
    """
    flat = tokens_B_T_H_W.flatten(1).long()
    begin = flat.new_full((flat.shape[0], config.num_prefix_tokens), config.vocab_size)
    return torch.cat((begin, flat), dim=1)


def to_video(sequence_B_S: Tensor, latent_shape: tuple[int, int, int], config: ARConfig) -> Tensor:
    """The inverse of `to_sequence`: [B, S] -> [B, T, H, W]."""
    return sequence_B_S[:, config.num_prefix_tokens :].unflatten(1, latent_shape)

"""Where a token is: rotary angles over (time, height, width) with YaRN, and the absolute sinusoid."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cosmos_nemo.models.autoregressive.config import ARConfig
from cosmos_nemo.models.common.rope import token_angles


def axis_dims(size: int) -> tuple[int, int, int]:
    """Divides ``size`` channels over time, height and width: d_h = d_w = 2 floor(size / 6), d_t is the rest."""
    spatial = size // 6 * 2
    return size - 2 * spatial, spatial, spatial


def rotary_frequencies(config: ARConfig, dim: int, original_length: int) -> Tensor:
    """Frequencies of one axis: f_i = base^(-2i / dim), stretched by YaRN where it is on.

    With N the original length: m = clip((f - 2 pi beta_slow / N) / (2 pi (beta_fast - beta_slow) / N), 0, 1) and
    f' = f ((1 - m) / scale + m). YaRN's attention factor is not applied; the published networks do not either.

    Args:
        config: base and YaRN settings.
        dim: channels of the axis.
        original_length: positions before stretching.

    Returns:
        [dim / 2], float32.

    Source: Cosmos-Predict1 `RotaryPositionEmbeddingPytorchV2`.
    """
    f = 1.0 / config.rotary_base ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    if not config.use_yarn:
        return f
    low, high = (2 * math.pi * beta / original_length for beta in (config.yarn_beta_slow, config.yarn_beta_fast))
    m = ((f - low) / (high - low)).clamp(0, 1)
    return f * ((1 - m) / config.yarn_scale + m)


def rotary_angles(config: ARConfig, latent_shape: tuple[int, int, int]) -> Tensor:
    """Rotation angles of a whole sequence, one half (the other is the same).

    Returns:
        [S, K/2], float32, S = prefix + T H W; prefix rows are zero. Channels in the order time, height, width.
    """
    dim_t, dim_h, dim_w = axis_dims(config.head_dim)
    frames, height, _ = config.yarn_original_latent_shape
    # Upstream stretches the width by the height's original length.
    f_t, f_h, f_w = (
        rotary_frequencies(config, dim, length) for dim, length in ((dim_t, frames), (dim_h, height), (dim_w, height))
    )
    t, h, w = (torch.arange(count, dtype=torch.float32) for count in latent_shape)
    angles = token_angles(torch.outer(t, f_t)[:, None], torch.outer(h, f_h), torch.outer(w, f_w))[:, 0]
    return _with_prefix(angles, config)


def absolute_embedding(config: ARConfig, latent_shape: tuple[int, int, int]) -> Tensor:
    """The sinusoid that is added before every layer: per axis [sin(p w), cos(p w)], w_i = 10000^(-i / (d_axis / 2)).

    Returns:
        [S, D], float32, prefix rows zero. The published networks keep it in bfloat16: round before use.

    Source: Cosmos-Predict1 `SinCosPosEmbAxisTE`.
    """

    def axis(dim: int, count: int) -> Tensor:
        w = 1.0 / 10000 ** (torch.arange(dim // 2, dtype=torch.float64) / (dim / 2))
        angles = torch.outer(torch.arange(count, dtype=torch.float64), w)
        return torch.cat((angles.sin(), angles.cos()), dim=-1).float()

    t, h, w = (axis(dim, count) for dim, count in zip(axis_dims(config.hidden_size), latent_shape, strict=True))
    return _with_prefix(token_angles(t[:, None], h, w)[:, 0], config)


def _with_prefix(table_S: Tensor, config: ARConfig) -> Tensor:
    prefix = table_S.new_zeros(config.num_prefix_tokens, table_S.shape[1])
    return torch.cat((prefix, table_S))

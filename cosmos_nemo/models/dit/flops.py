"""Floating-point operations of the network, for MFU."""

from __future__ import annotations

from cosmos_nemo.models.dit.config import DiTConfig


def forward_flops(config: DiTConfig, num_video_tokens: int, num_text_tokens: int, batch: int) -> float:
    """Floating-point operations of one forward pass; a training step costs three times as many.

    A multiply-add counts as two. Only matrix products of tokens are counted: modulation, which is per frame, and
    elementwise work are below one percent at any real size. Recomputation does not count (model FLOPs).

    Args:
        config: the network.
        num_video_tokens: S, latent frames x height / 2 x width / 2.
        num_text_tokens: L, padding included, because it is attended.
        batch: number of samples.
    """
    S, L, D, E, ffn = (
        num_video_tokens,
        num_text_tokens,
        config.hidden_size,
        config.crossattn_emb_channels,
        (config.ffn_hidden_size),
    )
    self_attention = 2 * S * 4 * D * D + 4 * S * S * D
    cross_attention = 2 * S * 2 * D * D + 2 * L * E * 2 * D + 4 * S * L * D
    mlp = 4 * S * D * ffn
    patch = config.patch_spatial**2 * config.patch_temporal
    ends = 2 * S * D * patch * (config.patch_channels + config.out_channels)
    return float(batch * (config.num_layers * (self_attention + cross_attention + mlp) + ends))

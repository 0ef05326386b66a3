"""Floating-point operations of the network, for MFU."""

from __future__ import annotations

from cosmos_nemo.models.autoregressive.config import ARConfig


def forward_flops(config: ARConfig, num_tokens: int, num_text_tokens: int = 0, batch: int = 1) -> float:
    """Floating-point operations of one forward pass; a training step costs three times as many.

    A multiply-add counts as two. Causal attention counts half of the square. Recomputation does not count.

    Args:
        config: the network.
        num_tokens: S, prefix included.
        num_text_tokens: L, padding included.
        batch: number of samples.
    """
    S, D, K, F = num_tokens, config.hidden_size, config.head_dim, config.ffn_hidden_size
    heads, kv_heads = config.num_attention_heads, config.num_query_groups
    attention = 2 * S * D * K * (2 * heads + 2 * kv_heads) + 2 * S * S * heads * K
    mlp = 6 * S * D * F
    L = num_text_tokens
    cross = 4 * S * D * heads * K + 4 * L * config.crossattn_emb_channels * kv_heads * K + 4 * S * L * heads * K
    num_cross = sum(config.has_cross_attention(i) for i in range(config.num_layers))
    return float(batch * (config.num_layers * (attention + mlp) + num_cross * cross + 2 * S * D * config.vocab_size))

"""Networks that the autoregressive benchmarks measure, and the shape of their peers."""

from __future__ import annotations

from typing import Any

import torch

from cosmos_nemo.models.autoregressive.config import AUTOREGRESSIVE, ARConfig

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def network_config(size: str, dtype: torch.dtype, *, num_layers: int, **settings: Any) -> ARConfig:
    """The named size, or for "stack" some layers with its proportions for a CPU."""
    settings |= {"params_dtype": dtype, "bf16": dtype is torch.bfloat16}
    if size != "stack":
        return AUTOREGRESSIVE[size](**settings)
    return ARConfig(
        num_layers=num_layers,
        hidden_size=512,
        num_attention_heads=8,
        num_query_groups=2,
        ffn_hidden_size=1792,
        vocab_size=8000,
        **settings,
    )


def peer_settings(config: ARConfig, num_tokens: int) -> dict[str, Any]:
    """Arguments of transformers' LlamaConfig or Qwen3Config for a network of the same shape."""
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.ffn_hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_query_groups,
        "head_dim": config.head_dim,
        "max_position_embeddings": num_tokens,
        "tie_word_embeddings": False,
    }

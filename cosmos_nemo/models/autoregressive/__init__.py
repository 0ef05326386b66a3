"""The Cosmos-Predict1 autoregressive transformer (4B, 12B, and 5B, 13B with text) on Megatron-core."""

from cosmos_nemo.models.autoregressive.cache import KVCache
from cosmos_nemo.models.autoregressive.config import (
    AUTOREGRESSIVE,
    BEGIN_OF_VIDEO,
    AR4BConfig,
    AR12BConfig,
    ARConfig,
    ARTinyConfig,
    ARVideo2World5BConfig,
    ARVideo2World13BConfig,
)
from cosmos_nemo.models.autoregressive.flops import forward_flops
from cosmos_nemo.models.autoregressive.loss import NextTokenObjective, next_token_labels, next_token_loss
from cosmos_nemo.models.autoregressive.model import AutoregressiveTransformer

__all__ = [
    "AUTOREGRESSIVE",
    "BEGIN_OF_VIDEO",
    "AR4BConfig",
    "AR12BConfig",
    "ARConfig",
    "ARTinyConfig",
    "ARVideo2World5BConfig",
    "ARVideo2World13BConfig",
    "AutoregressiveTransformer",
    "KVCache",
    "NextTokenObjective",
    "forward_flops",
    "next_token_labels",
    "next_token_loss",
]

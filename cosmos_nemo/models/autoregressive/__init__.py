"""The Cosmos-Predict1 autoregressive transformer (4B, 12B, and 5B, 13B with text) on Megatron-core."""

from cosmos_nemo.models.autoregressive.cache import KVCache
from cosmos_nemo.models.autoregressive.config import (
    AUTOREGRESSIVE,
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
from cosmos_nemo.models.autoregressive.sampling import continue_tokens, greedy, top_p_pick, top_p_probabilities
from cosmos_nemo.models.autoregressive.sequence import check_token_ids, to_sequence, to_video

__all__ = [
    "AUTOREGRESSIVE",
    "AR4BConfig",
    "AR12BConfig",
    "ARConfig",
    "ARTinyConfig",
    "ARVideo2World5BConfig",
    "ARVideo2World13BConfig",
    "AutoregressiveTransformer",
    "KVCache",
    "NextTokenObjective",
    "check_token_ids",
    "continue_tokens",
    "forward_flops",
    "greedy",
    "next_token_labels",
    "next_token_loss",
    "to_sequence",
    "to_video",
    "top_p_pick",
    "top_p_probabilities",
]

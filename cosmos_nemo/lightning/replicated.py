"""A network that every rank holds all of, as Megatron's wrappers and schedules want it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from megatron.core.enums import ModelType
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_config import TransformerConfig
from megatron.core.transformer.utils import sharded_state_dict_default
from torch import Tensor, nn


def config_without_a_transformer() -> TransformerConfig:
    """Return what NeMo and Megatron read dtypes and parallel sizes from, of a network that is no transformer."""
    return TransformerConfig(num_layers=1, hidden_size=1, num_attention_heads=1, gradient_accumulation_fusion=False)


class Replicated(MegatronModule):
    """A plain network with what Megatron asks of a model.

    Args:
        config: see `config_without_a_transformer`.
        network: takes and returns what it likes.
    """

    def __init__(self, config: TransformerConfig, network: nn.Module) -> None:
        super().__init__(config)
        self.module = network
        self.model_type = ModelType.encoder_or_decoder
        # Megatron's schedules number micro batches in the layers of a transformer's `decoder`, and would take the
        # network's own decoder for one.
        self.decoder = SimpleNamespace(layers=())

    def forward(self, video_B_3_T_H_W: Tensor) -> Any:
        """Return the network's output."""
        return self.module(video_B_3_T_H_W)

    def set_input_tensor(self, input_tensor: Any) -> None:
        """Take what an earlier pipeline stage gives: there is none."""

    def sharded_state_dict(self, prefix: str = "", *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the network's shards, without a name for this wrapper."""
        shards: dict[str, Any] = sharded_state_dict_default(self.module, prefix, *args, **kwargs)
        return shards

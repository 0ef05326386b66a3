"""Small autoregressive networks and token batches that several tests share; keyed, so every process makes the same."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cosmos_nemo.models.autoregressive.config import ARConfig
from cosmos_nemo.models.autoregressive.model import AutoregressiveTransformer
from cosmos_nemo.numerics.keyed import generator

LATENT_SHAPE = (3, 4, 5)


def ar_config(**settings: Any) -> ARConfig:
    """Two layers, grouped heads, a vocabulary that is no multiple of anything."""
    defaults = {
        "num_layers": 2,
        "hidden_size": 48,
        "num_attention_heads": 8,
        "num_query_groups": 4,
        "kv_channels": 12,
        "ffn_hidden_size": 56,
        "vocab_size": 67,
    }
    return ARConfig(**{**defaults, **settings})


def ar_text_config(**settings: Any) -> ARConfig:
    """The same with everything that the networks that read text add."""
    text = {
        "input_vocab_size": 71,
        "num_prefix_tokens": 1,
        "use_abs_pos_emb": True,
        "crossattn_emb_channels": 20,
        "use_yarn": True,
    }
    return ar_config(**{**text, **settings})


def ar_inputs(config: ARConfig, *, batch_size: int = 2) -> dict[str, Any]:
    """Arguments of `AutoregressiveTransformer.forward` for a whole video, with text where the network reads some."""
    gen = generator(4, config.num_prefix_tokens)
    T, H, W = LATENT_SHAPE
    tokens = torch.randint(config.vocab_size, (batch_size, T * H * W), generator=gen)
    inputs: dict[str, Any] = {"tokens_B_S": tokens, "latent_shape": LATENT_SHAPE}
    if config.num_prefix_tokens:
        begin = torch.full((batch_size, 1), config.vocab_size)
        inputs["tokens_B_S"] = torch.cat((begin, tokens), dim=1)
    if config.crossattn_emb_channels:
        inputs["context_B_L_E"] = torch.randn(batch_size, 6, config.crossattn_emb_channels, generator=gen)
        mask = torch.ones(batch_size, 6, dtype=torch.bool)
        mask[-1, 4:] = False
        inputs["context_mask_B_L"] = mask
    return inputs


@torch.no_grad()
def ar_randomise(model: AutoregressiveTransformer) -> None:
    """Makes fresh weights large and norm weights random, whatever the way the network is cut."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator(1, name)))
        elif name.startswith("decoder"):
            parameter.mul_(8)


def in_whole_order(name: str, joined: Tensor, rows: int, tp: int) -> Tensor:
    """From tensor-parallel slices put one after another to the tensor of one process.

    Args:
        name: of the parameter.
        joined: rank after rank.
        rows: of the whole tensor.
        tp: number of slices.
    """
    if name.endswith("linear_fc1.weight"):  # every rank's [W1; W3] -> [W1; W3]
        joined = joined.unflatten(0, (tp, 2, -1)).transpose(0, 1).flatten(0, 2)
    assert torch.count_nonzero(joined[rows:]) == 0, f"{name}: padding of the vocabulary is not zero"
    return joined[:rows]

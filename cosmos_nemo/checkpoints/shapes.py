"""Reads a network's size off the shapes of its published weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cosmos_nemo.checkpoints.architecture import size_words
from cosmos_nemo.checkpoints.predict2 import table
from cosmos_nemo.checkpoints.published import detect_naming, select_network
from cosmos_nemo.errors import UserError

LATENT_CHANNELS = 16
"""Latent channels of every Predict2 network; the patch layer sees a padding mask too, and maybe a condition mask."""

_PROBES = (
    "patch_embed.weight",
    "final.linear.weight",
    "blocks.0.self_attn.q_layernorm.weight",
    "blocks.0.mlp.linear_fc1.weight",
    "blocks.0.cross_attn.linear_kv.weight",
    "blocks.0.adaln.down",
)
"""Rows whose published shapes fix every size between them."""

_BLOCK = re.compile(r"(?:transformer_)?blocks\.(\d+)\.")

_ROPE_FIELDS = ("rope_t_extrapolation_ratio", "rope_h_extrapolation_ratio", "rope_w_extrapolation_ratio")


def infer_config(state: Mapping[str, Tensor], *, ema: bool = False) -> dict[str, Any]:
    """Fields of `DiTConfig` that the shapes of published weights fix.

    The RoPE extrapolation ratios are not stored in a published file: they are filled in when the size is one of
    this project's named sizes, and left out otherwise.

    Args:
        state: published weights, original or diffusers names, with or without prefix.
        ema: look at the averaged copy.

    Returns:
        keyword arguments of `DiTConfig`.

    Raises:
        UserError: a tensor that fixes a size is missing or has an impossible shape.
    """
    state = select_network(state, ema=ema)
    naming = detect_naming(state)
    size: dict[str, int] = {}
    for row in table(1):
        if row.ours in _PROBES:
            name = row.published(naming)[0]
            if name not in state:
                raise UserError(f"Not a Cosmos-Predict2 network: '{name}' is missing ({len(state)} tensors found).")
            size.update(zip(row.shape, state[name].shape, strict=False))
    hidden_size, patch_width, kv_channels = size["D"], size["P"], size["K"]
    channels = patch_width // 4  # 2 x 2 patches
    if channels not in (LATENT_CHANNELS + 1, LATENT_CHANNELS + 2) or hidden_size % kv_channels:
        raise UserError(
            f"Not a Cosmos-Predict2 network: patch layer [{hidden_size}, {patch_width}], head size "
            f"{kv_channels}; expected {4 * (LATENT_CHANNELS + 1)} or {4 * (LATENT_CHANNELS + 2)} patch inputs."
        )
    fields: dict[str, Any] = {
        "num_layers": 1 + max(int(match[1]) for key in state if (match := _BLOCK.match(key))),
        "hidden_size": hidden_size,
        "num_attention_heads": hidden_size // kv_channels,
        "kv_channels": kv_channels,
        "ffn_hidden_size": size["F"],
        "crossattn_emb_channels": size["E"],
        "adaln_lora_dim": size["R"],
        "in_channels": LATENT_CHANNELS,
        "out_channels": size["O"] // 4,
        "video_condition": channels == LATENT_CHANNELS + 2,
    }
    return fields | known_rope_ratios(fields)


def published_architecture(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Network-describing fields of published weights, including what a file does not hold.

    Raises:
        UserError: not one of the named sizes, so that the RoPE extrapolation ratios are unknown.
    """
    fields = infer_config(state)
    if "rope_t_extrapolation_ratio" not in fields:
        raise UserError(
            f"These weights ({size_words(fields)}) are of no named size, and a published file does not hold the RoPE "
            "extrapolation ratios: use the training checkpoint's folder instead, which does."
        )
    return fields


def known_rope_ratios(fields: Mapping[str, Any]) -> dict[str, float]:
    """RoPE extrapolation ratios of the named size with these fields; empty if no named size has them."""
    from cosmos_nemo.models.dit.config import PREDICT2

    for make in PREDICT2.values():
        named = make()
        if all(getattr(named, key) == value for key, value in fields.items()):
            return {key: float(getattr(named, key)) for key in _ROPE_FIELDS}
    return {}

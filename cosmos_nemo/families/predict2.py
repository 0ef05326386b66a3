"""The one table of Cosmos-Predict2 parameter names: ours, the published original ones, and diffusers'.

A row says which published tensors make up one of our parameters and how they are laid out in it. Everything
else (import, export, gradients, tensor parallelism) is derived from the rows.

Source: cosmos-predict2 `cosmos_predict2/models/text2image_dit.py`; diffusers
`scripts/convert_cosmos_to_diffusers.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from cosmos_nemo.errors import UserError
from cosmos_nemo.families.family import Family
from cosmos_nemo.families.rows import Layout, Naming, Row

if TYPE_CHECKING:
    from cosmos_nemo.models.dit.config import DiTConfig
    from cosmos_nemo.models.dit.model import DiT


def _row(
    ours: str,
    original: tuple[str, ...],
    diffusers: tuple[str, ...],
    shape: str,
    layout: Layout,
    parts: tuple[str, ...] = (),
) -> Row:
    """A row with `.weight` after every published name (no parameter of these networks is a bias)."""
    names, peers = (tuple(f"{name}.weight" for name in group) for group in (original, diffusers))
    shapes = (tuple(shape.split()),) * len(names)
    return Row(ours=ours, original=names, diffusers=peers, shapes=shapes, layout=layout, parts=parts)


def _copy(ours: str, original: str, diffusers: str, shape: str, *, part: str | None = None) -> Row:
    """Row of a parameter that is one published tensor; `shape` is written as `3D D`."""
    parts = (part,) if part else ()
    return _row(f"{ours}.weight", (original,), (diffusers,), shape, Layout.COPY, parts)


def _stack(ours: str, original: tuple[str, ...], diffusers: tuple[str, ...], shape: str) -> Row:
    """Row of an adaLN parameter: the matrices of several sub-layers, stacked."""
    return _row(ours, original, diffusers, shape, Layout.STACK)


def _per_head(
    ours: str, original: tuple[str, ...], diffusers: tuple[str, ...], shape: str, *, parts: tuple[str, ...]
) -> Row:
    """Row of several attention projections in one matrix, head by head."""
    return _row(f"{ours}.weight", original, diffusers, shape, Layout.PER_HEAD, parts)


def _adaln_names(matrix: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the first or second adaLN matrices of a block, in our order: self-attention, cross-attention, MLP."""
    original = tuple(f"blocks.{{i}}.adaln_modulation_{name}.{matrix}" for name in ("self_attn", "cross_attn", "mlp"))
    return original, tuple(f"transformer_blocks.{{i}}.norm{n}.linear_{matrix}" for n in (1, 2, 3))


def _attention_tail(ours: str, diffusers: str) -> tuple[Row, ...]:
    """Rows that both attention sub-layers have: output projection and the norms of queries and keys."""
    block, peer = f"blocks.{{i}}.{ours}", f"transformer_blocks.{{i}}.{diffusers}"
    return (
        _copy(f"{block}.linear_proj", f"{block}.output_proj", f"{peer}.to_out.0", "D D", part=f"{ours}.proj"),
        _copy(f"{block}.q_layernorm", f"{block}.q_norm", f"{peer}.norm_q", "K"),
        _copy(f"{block}.k_layernorm", f"{block}.k_norm", f"{peer}.norm_k", "K"),
    )


OUTER_ROWS: tuple[Row, ...] = (
    _copy("patch_embed", "x_embedder.proj.1", "patch_embed.proj", "D P"),
    _copy("time_embed.linear_1", "t_embedder.1.linear_1", "time_embed.t_embedder.linear_1", "D D"),
    _copy("time_embed.linear_2", "t_embedder.1.linear_2", "time_embed.t_embedder.linear_2", "3D D"),
    _copy("time_embed.norm", "t_embedding_norm", "time_embed.norm", "D"),
    _stack("final.adaln.down", ("final_layer.adaln_modulation.1",), ("norm_out.linear_1",), "R D"),
    _stack("final.adaln.up", ("final_layer.adaln_modulation.2",), ("norm_out.linear_2",), "2D R"),
    _copy("final.linear", "final_layer.linear", "proj_out", "O D"),
)
"""Parameters outside the blocks."""

_SELF, _CROSS, _BLOCK = "blocks.{i}.self_attn", "blocks.{i}.cross_attn", "transformer_blocks.{i}"

BLOCK_ROWS: tuple[Row, ...] = (
    _stack("blocks.{i}.adaln.down", *_adaln_names(1), "R D"),
    _stack("blocks.{i}.adaln.up", *_adaln_names(2), "3D R"),
    _per_head(
        f"{_SELF}.linear_qkv",
        (f"{_SELF}.q_proj", f"{_SELF}.k_proj", f"{_SELF}.v_proj"),
        (f"{_BLOCK}.attn1.to_q", f"{_BLOCK}.attn1.to_k", f"{_BLOCK}.attn1.to_v"),
        "D D",
        parts=("self_attn.q", "self_attn.k", "self_attn.v"),
    ),
    *_attention_tail("self_attn", "attn1"),
    _copy(f"{_CROSS}.linear_q", f"{_CROSS}.q_proj", f"{_BLOCK}.attn2.to_q", "D D", part="cross_attn.q"),
    _per_head(
        f"{_CROSS}.linear_kv",
        (f"{_CROSS}.k_proj", f"{_CROSS}.v_proj"),
        (f"{_BLOCK}.attn2.to_k", f"{_BLOCK}.attn2.to_v"),
        "D E",
        parts=("cross_attn.k", "cross_attn.v"),
    ),
    *_attention_tail("cross_attn", "attn2"),
    _copy("blocks.{i}.mlp.linear_fc1", "blocks.{i}.mlp.layer1", f"{_BLOCK}.ff.net.0.proj", "F D", part="mlp.fc1"),
    _copy("blocks.{i}.mlp.linear_fc2", "blocks.{i}.mlp.layer2", f"{_BLOCK}.ff.net.2", "D F", part="mlp.fc2"),
)
"""Parameters of one block; `{i}` is the block number."""


def table(fields: Mapping[str, Any]) -> tuple[Row, ...]:
    """All rows of the network that `fields` of `DiTConfig` describe."""
    blocks = range(int(fields["num_layers"]))
    return OUTER_ROWS + tuple(row.of_block(i) for i in blocks for row in BLOCK_ROWS)


def network_sizes(fields: Mapping[str, Any]) -> dict[str, int]:
    """Values of the symbols in `Row.shape`, from the network-describing fields of `DiTConfig`.

    D hidden size, K head width, F MLP size, E text width, R adaLN rank, P inputs and O outputs of a patch.
    """
    D = int(fields["hidden_size"])
    patch = int(fields.get("patch_spatial", 2)) ** 2 * int(fields.get("patch_temporal", 1))
    masks = int(fields["video_condition"]) + int(fields.get("concat_padding_mask", True))
    return {
        "D": D,
        "2D": 2 * D,
        "3D": 3 * D,
        "K": D // int(fields["num_attention_heads"]),
        "F": int(fields["ffn_hidden_size"]),
        "E": int(fields["crossattn_emb_channels"]),
        "R": int(fields["adaln_lora_dim"]),
        "P": (int(fields.get("in_channels", 16)) + masks) * patch,
        "O": int(fields.get("out_channels", 16)) * patch,
    }


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

_BLOCK_NUMBER = re.compile(r"(?:transformer_)?blocks\.(\d+)\.")


def infer(state: Mapping[str, Tensor], naming: Naming) -> dict[str, Any]:
    """Fields of `DiTConfig` that the shapes of prefix-free published weights fix.

    Raises:
        UserError: a tensor that fixes a size is missing or has an impossible shape.
    """
    size: dict[str, int] = {}
    for row in table({"num_layers": 1}):
        if row.ours in _PROBES:
            name = row.published(naming)[0]
            if name not in state:
                raise UserError(f"Not a Cosmos-Predict2 network: '{name}' is missing ({len(state)} tensors found).")
            size.update(zip(row.shapes[0], state[name].shape, strict=False))
    hidden_size, patch_width, kv_channels = size["D"], size["P"], size["K"]
    channels = patch_width // 4  # 2 x 2 patches
    if channels not in (LATENT_CHANNELS + 1, LATENT_CHANNELS + 2) or hidden_size % kv_channels:
        raise UserError(
            f"Not a Cosmos-Predict2 network: patch layer [{hidden_size}, {patch_width}], head size "
            f"{kv_channels}; expected {4 * (LATENT_CHANNELS + 1)} or {4 * (LATENT_CHANNELS + 2)} patch inputs."
        )
    return {
        "num_layers": 1 + max(int(match[1]) for key in state if (match := _BLOCK_NUMBER.match(key))),
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


def task_of(fields: Mapping[str, Any]) -> str:
    """`video2world` for a network with a condition-mask channel, else `text2image`."""
    return "video2world" if fields.get("video_condition") else "text2image"


def make_config(**fields: Any) -> DiTConfig:
    """A config of this family."""
    from cosmos_nemo.models.dit.config import DiTConfig

    return DiTConfig(**fields)


def make_model(config: DiTConfig) -> DiT:
    """The network of a config, in the current model-parallel world."""
    from cosmos_nemo.models.dit.model import DiT

    return DiT(config)


def named() -> Mapping[str, type]:
    """The named sizes."""
    from cosmos_nemo.models.dit.config import PREDICT2 as SIZES

    return SIZES


PREDICT2 = Family(
    name="predict2",
    title="Cosmos-Predict2",
    prefix="net.",
    ema_prefix="net_ema.",
    recognises=re.compile(r"(x_embedder|t_embedder|t_embedding_norm|(transformer_)?blocks|patch_embed|time_embed)\."),
    table=table,
    network_sizes=network_sizes,
    infer=infer,
    fields=(
        "num_layers",
        "hidden_size",
        "num_attention_heads",
        "kv_channels",
        "ffn_hidden_size",
        "in_channels",
        "out_channels",
        "video_condition",
        "concat_padding_mask",
        "patch_spatial",
        "patch_temporal",
        "crossattn_emb_channels",
        "adaln_lora_dim",
        "rope_t_extrapolation_ratio",
        "rope_h_extrapolation_ratio",
        "rope_w_extrapolation_ratio",
        "rope_enable_fps_modulation",
        "max_img_h",
        "max_img_w",
        "max_frames",
    ),
    unstored=("rope_t_extrapolation_ratio", "rope_h_extrapolation_ratio", "rope_w_extrapolation_ratio"),
    unstored_words="the RoPE extrapolation ratios",
    named=named,
    make_config=make_config,
    make_model=make_model,
    task_of=task_of,
    size_fields={
        "num_layers": "number of blocks",
        "hidden_size": "hidden size",
        "num_attention_heads": "number of heads",
        "ffn_hidden_size": "MLP size",
        "crossattn_emb_channels": "text width",
        "adaln_lora_dim": "adaLN rank",
        "video_condition": "condition-mask channel (Video2World)",
    },
    foreign={
        "crossattn_proj.": "Its text encoder is Cosmos-Reason1 (it has crossattn_proj); this project's models use T5"
    },
    block_prefix="blocks.",
)

"""The one table of Cosmos-Predict2 parameter names: ours, the published original ones, and diffusers'.

A row says which published tensors make up one of our parameters and how they are laid out in it. Everything
else (import, export, gradients, tensor parallelism) is derived from the rows.

Source: cosmos-predict2 `cosmos_predict2/models/text2image_dit.py`; diffusers
`scripts/convert_cosmos_to_diffusers.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from cosmos_nemo.errors import UserError
from cosmos_nemo.families.names import Names
from cosmos_nemo.families.rows import Layout, Naming, Row


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


class Predict2Names(Names):
    """Names of the Predict2 diffusion transformers."""

    prefix = "net."
    adapter_alpha = 16.0
    ema_prefix = "net_ema."
    # Diffusers' class of these networks is Predict1's too, without the learned positions.
    marks = re.compile(
        r"t_embedding_norm\.|blocks\.\d+\.adaln_modulation_(self_attn|cross_attn|mlp)\."
        r"|transformer_blocks\.\d+\.attn[12]\."
    )
    strange = {"learnable_pos_embed.": "a Cosmos-Predict1 diffusion network"}
    unsupported = {
        "crossattn_proj.": "Its text encoder is Cosmos-Reason1 (it has crossattn_proj); this project's models use T5"
    }
    ignored = re.compile(
        r"accum_(video_sample_counter|image_sample_counter|iteration|train_in_hours)"
        r"|pos_embedder\.(seq|dim_spatial_range|dim_temporal_range)"
    )

    def rows(self, fields: Mapping[str, Any]) -> tuple[Row, ...]:
        """Return the rows of the network that `fields` of `DiTConfig` describe."""
        blocks = range(int(fields["num_layers"]))
        return OUTER_ROWS + tuple(row.of_block(i) for i in blocks for row in BLOCK_ROWS)

    def sizes(self, fields: Mapping[str, Any]) -> dict[str, int]:
        """Return the values of the symbols in `Row.shapes`.

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

    def infer(self, state: Mapping[str, Tensor], *, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the fields of `DiTConfig` that the shapes of published weights fix."""
        size = self._probe(state)
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

    def _probe(self, state: Mapping[str, Tensor]) -> dict[str, int]:
        """Return the value of every symbol that the tensors of `_PROBES` show."""
        naming = self.naming(state)
        size: dict[str, int] = {}
        for row in self.rows({"num_layers": 1}):
            if row.ours in _PROBES:
                name = row.published(naming)[0]
                if name not in state:
                    raise UserError(f"Not a Cosmos-Predict2 network: '{name}' is missing ({len(state)} tensors found).")
                size.update(zip(map(str, row.shapes[0]), state[name].shape, strict=False))
        return size

    def naming(self, keys: Iterable[str]) -> Naming:
        """Return which vocabulary prefix-free keys use: of the original files, or of diffusers."""
        theirs = ("transformer_blocks.", "patch_embed.", "time_embed.")
        return Naming.DIFFUSERS if any(key.startswith(theirs) for key in keys) else Naming.ORIGINAL

    def diffusers_config(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the `config.json` of diffusers' CosmosTransformer3DModel.

        Note that diffusers always applies fps modulation when it is given fps: pass fps=None for the same output.
        """
        from importlib.metadata import version

        heads, spatial = fields["num_attention_heads"], fields["patch_spatial"]
        return {
            "_class_name": "CosmosTransformer3DModel",
            "_diffusers_version": version("diffusers"),
            "in_channels": fields["in_channels"] + int(fields["video_condition"]),
            "out_channels": fields["out_channels"],
            "num_attention_heads": heads,
            "attention_head_dim": fields["hidden_size"] // heads,
            "num_layers": fields["num_layers"],
            "mlp_ratio": fields["ffn_hidden_size"] / fields["hidden_size"],
            "text_embed_dim": fields["crossattn_emb_channels"],
            "adaln_lora_dim": fields["adaln_lora_dim"],
            "max_size": [fields["max_frames"], fields["max_img_h"], fields["max_img_w"]],
            "patch_size": [fields["patch_temporal"], spatial, spatial],
            "rope_scale": [fields[f"rope_{axis}_extrapolation_ratio"] for axis in ("t", "h", "w")],
            "concat_padding_mask": fields["concat_padding_mask"],
            "extra_pos_embed_type": None,
        }

"""The one table of Cosmos-Predict2 parameter names: ours, the published original ones, and diffusers'.

A row says which published tensors make up one of our parameters and how they are laid out in it. Everything
else (import, export, gradients, tensor parallelism) is derived from the rows.

Source: cosmos-predict2 `cosmos_predict2/models/text2image_dit.py`; diffusers
`scripts/convert_cosmos_to_diffusers.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor


class Layout(Enum):
    """How the published tensors of a row lie in our parameter."""

    COPY = "copy"
    """One published tensor, same shape."""
    PER_HEAD = "per_head"
    """n tensors [N*K, X] become [N*n*K, X]: head 0's q, k, v, then head 1's. A contiguous slice is whole heads."""
    STACK = "stack"
    """n tensors [P, Q] become [n, P, Q]."""


class Naming(str, Enum):
    """Which published family of names a state dict uses."""

    ORIGINAL = "original"
    DIFFUSERS = "diffusers"


ORIGINAL_PREFIX = "net."
"""Prefix of every network key in the original published files."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One of our parameters and the published tensors it is made of.

    Attributes:
        ours: parameter name in `cosmos_nemo.models.dit`; `{i}` is the block number.
        original: names in the published `.pt` files, without the prefix `net.`.
        diffusers: names in diffusers' CosmosTransformer3DModel, in the same order.
        shape: shape of each published tensor, in the symbols of `network_sizes`.
        layout: how the published tensors lie in our parameter.
    """

    ours: str
    original: tuple[str, ...]
    diffusers: tuple[str, ...]
    shape: tuple[str, ...]
    layout: Layout

    def published(self, naming: Naming) -> tuple[str, ...]:
        """Names of the published tensors in the family `naming`, without any prefix."""
        return self.original if naming is Naming.ORIGINAL else self.diffusers

    def of_block(self, index: int) -> Row:
        """The row of block number `index`."""
        block = str(index)
        return Row(
            ours=self.ours.replace("{i}", block),
            original=tuple(name.replace("{i}", block) for name in self.original),
            diffusers=tuple(name.replace("{i}", block) for name in self.diffusers),
            shape=self.shape,
            layout=self.layout,
        )


def _row(ours: str, original: tuple[str, ...], diffusers: tuple[str, ...], shape: str, layout: Layout) -> Row:
    """A row with `.weight` after every published name (no parameter of these networks is a bias)."""
    names, peers = (tuple(f"{name}.weight" for name in group) for group in (original, diffusers))
    return Row(ours=ours, original=names, diffusers=peers, shape=tuple(shape.split()), layout=layout)


def _copy(ours: str, original: str, diffusers: str, shape: str) -> Row:
    """Row of a parameter that is one published tensor; `shape` is written as `3D D`."""
    return _row(f"{ours}.weight", (original,), (diffusers,), shape, Layout.COPY)


def _stack(ours: str, original: tuple[str, ...], diffusers: tuple[str, ...], shape: str) -> Row:
    """Row of an adaLN parameter: the matrices of several sub-layers, stacked."""
    return _row(ours, original, diffusers, shape, Layout.STACK)


def _per_head(ours: str, original: tuple[str, ...], diffusers: tuple[str, ...], shape: str) -> Row:
    """Row of several attention projections in one matrix, head by head."""
    return _row(f"{ours}.weight", original, diffusers, shape, Layout.PER_HEAD)


def _adaln_names(matrix: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the first or second adaLN matrices of a block, in our order: self-attention, cross-attention, MLP."""
    original = tuple(f"blocks.{{i}}.adaln_modulation_{name}.{matrix}" for name in ("self_attn", "cross_attn", "mlp"))
    return original, tuple(f"transformer_blocks.{{i}}.norm{n}.linear_{matrix}" for n in (1, 2, 3))


def _attention_tail(ours: str, diffusers: str) -> tuple[Row, ...]:
    """Rows that both attention sub-layers have: output projection and the norms of queries and keys."""
    block, peer = f"blocks.{{i}}.{ours}", f"transformer_blocks.{{i}}.{diffusers}"
    return (
        _copy(f"{block}.linear_proj", f"{block}.output_proj", f"{peer}.to_out.0", "D D"),
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
    ),
    *_attention_tail("self_attn", "attn1"),
    _copy(f"{_CROSS}.linear_q", f"{_CROSS}.q_proj", f"{_BLOCK}.attn2.to_q", "D D"),
    _per_head(
        f"{_CROSS}.linear_kv",
        (f"{_CROSS}.k_proj", f"{_CROSS}.v_proj"),
        (f"{_BLOCK}.attn2.to_k", f"{_BLOCK}.attn2.to_v"),
        "D E",
    ),
    *_attention_tail("cross_attn", "attn2"),
    _copy("blocks.{i}.mlp.linear_fc1", "blocks.{i}.mlp.layer1", f"{_BLOCK}.ff.net.0.proj", "F D"),
    _copy("blocks.{i}.mlp.linear_fc2", "blocks.{i}.mlp.layer2", f"{_BLOCK}.ff.net.2", "D F"),
)
"""Parameters of one block; `{i}` is the block number."""


def table(num_layers: int) -> tuple[Row, ...]:
    """All rows of a network with `num_layers` blocks."""
    return OUTER_ROWS + tuple(row.of_block(i) for i in range(num_layers) for row in BLOCK_ROWS)


def join(layout: Layout, pieces: Sequence[Tensor], *, head_width: int) -> Tensor:
    """Lay published tensors out as our parameter.

    Args:
        layout: the row's layout.
        pieces: the row's published tensors, in the row's order; for PER_HEAD each [N*K, X], any whole number N
            of heads, so that a tensor-parallel shard is joined like the full tensor.
        head_width: K.

    Returns:
        our parameter (or our shard of it); values are copied, never computed with.
    """
    if layout is Layout.COPY:
        return pieces[0]
    if layout is Layout.STACK:
        return torch.stack(tuple(pieces))
    width = pieces[0].shape[1]
    heads = [piece.reshape(-1, head_width, width) for piece in pieces]  # [N*K, X] -> [N, K, X]
    return torch.stack(heads, dim=1).reshape(-1, width)  # [N, n, K, X] -> [N*n*K, X]


def split(layout: Layout, ours: Tensor, *, num_pieces: int, head_width: int) -> list[Tensor]:
    """Cut our parameter into the published tensors: the inverse of `join`.

    Args:
        layout: the row's layout.
        ours: our parameter, or our tensor-parallel shard of it.
        num_pieces: number of published tensors in the row.
        head_width: K.

    Returns:
        the published tensors, contiguous, in the row's order.
    """
    if layout is Layout.COPY:
        return [ours.contiguous()]
    if layout is Layout.STACK:
        return [piece.contiguous() for piece in ours.unbind(0)]
    width = ours.shape[1]
    heads = ours.reshape(-1, num_pieces, head_width, width)  # [N*n*K, X] -> [N, n, K, X]
    return [piece.reshape(-1, width).contiguous() for piece in heads.unbind(1)]


def published_dim(layout: Layout, partition_dim: int) -> int:
    """The dimension of the published tensors that our tensor-parallel `partition_dim` cuts."""
    return partition_dim - 1 if layout is Layout.STACK else partition_dim


def published_shape(layout: Layout, ours: tuple[int, ...], num_pieces: int) -> tuple[int, ...]:
    """Shape of each published tensor of a row whose full parameter has shape `ours`."""
    if layout is Layout.STACK:
        return ours[1:]
    if layout is Layout.PER_HEAD:
        return (ours[0] // num_pieces, *ours[1:])
    return ours


def our_shape(layout: Layout, published: tuple[int, ...], num_pieces: int) -> tuple[int, ...]:
    """Shape of our full parameter: the inverse of `published_shape`."""
    if layout is Layout.STACK:
        return (num_pieces, *published)
    if layout is Layout.PER_HEAD:
        return (num_pieces * published[0], *published[1:])
    return published


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


def published_shapes(fields: Mapping[str, Any], naming: Naming) -> dict[str, tuple[int, ...]]:
    """Shape of every published tensor of the network that `fields` describe, by prefix-free name."""
    sizes = network_sizes(fields)
    return {
        name: tuple(sizes[symbol] for symbol in row.shape)
        for row in table(int(fields["num_layers"]))
        for name in row.published(naming)
    }


def our_shapes(fields: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Full shape of each of our parameters of the network that `fields` describe, by our name."""
    sizes = network_sizes(fields)
    return {
        row.ours: our_shape(row.layout, tuple(sizes[symbol] for symbol in row.shape), len(row.original))
        for row in table(int(fields["num_layers"]))
    }

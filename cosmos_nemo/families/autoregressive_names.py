"""The one table of the autoregressive networks' parameter names: ours (Megatron GPT's) and the published original ones.

Source: NVIDIA/Cosmos `cosmos1/models/autoregressive/nemo/cosmos.py` and `cosmos_video2world.py` (importers);
cosmos-predict1 `scripts/shard_autoregressive_base_checkpoints.py` for what tensor-parallel files are cut along.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from cosmos_nemo.errors import UserError
from cosmos_nemo.families.names import Names
from cosmos_nemo.families.rows import Layout, Row
from cosmos_nemo.parallel.sizes import require_divisor


def _row(
    ours: str,
    original: tuple[str, ...],
    shape: str,
    layout: Layout,
    *,
    cut: int | None = None,
    parts: tuple[str, ...] = (),
) -> Row:
    """A row with `.weight` after every name; `shape` is one for all, or one per published tensor: `N D, G D, G D`."""
    names = tuple(f"{name}.weight" for name in original)
    shapes = tuple(tuple(part.split()) for part in shape.split(","))
    shapes = shapes * len(names) if len(shapes) == 1 else shapes
    return Row(ours=f"{ours}.weight", original=names, shapes=shapes, layout=layout, cut=cut, parts=parts)


def _copy(ours: str, original: str, shape: str, *, cut: int | None = None, part: str | None = None) -> Row:
    """Row of a parameter that is one published tensor."""
    return _row(ours, (original,), shape, Layout.COPY, cut=cut, parts=(part,) if part else ())


_OURS, _THEIRS = "decoder.layers.{i}", "layers.{i}"


def _attention_tail(ours: str, theirs: str, *, part: str) -> tuple[Row, ...]:
    """Rows that both attention sub-layers have: output projection and the norms of queries and keys."""
    ours, theirs = f"{_OURS}.{ours}", f"{_THEIRS}.{theirs}"
    return (
        _copy(f"{ours}.linear_proj", f"{theirs}.wo", "D N", cut=1, part=part),
        _copy(f"{ours}.q_layernorm", f"{theirs}.q_norm", "K"),
        _copy(f"{ours}.k_layernorm", f"{theirs}.k_norm", "K"),
    )


FIRST_ROWS: tuple[Row, ...] = (_copy("embedding.word_embeddings", "tok_embeddings", "V D", cut=0),)
"""Parameters before the layers."""

LAST_ROWS: tuple[Row, ...] = (
    _copy("decoder.final_layernorm", "norm", "D"),
    _copy("output_layer", "output", "O D", cut=0),
)
"""Parameters after the layers."""

SELF_ROWS: tuple[Row, ...] = (
    _copy(f"{_OURS}.input_layernorm", f"{_THEIRS}.attention_norm", "D"),
    _row(
        f"{_OURS}.self_attention.linear_qkv",
        (f"{_THEIRS}.attention.wq", f"{_THEIRS}.attention.wk", f"{_THEIRS}.attention.wv"),
        "N D, G D, G D",
        Layout.PER_HEAD,
        cut=0,
        parts=("self_attn.q", "self_attn.k", "self_attn.v"),
    ),
    *_attention_tail("self_attention", "attention", part="self_attn.proj"),
)
"""Self-attention of one layer; `{i}` is the layer's number."""

CROSS_ROWS: tuple[Row, ...] = (
    _copy(f"{_OURS}.pre_cross_attn_layernorm", f"{_THEIRS}.cross_attention_norm", "D"),
    _copy(f"{_OURS}.cross_attention.linear_q", f"{_THEIRS}.cross_attention.wq", "N D", cut=0, part="cross_attn.q"),
    _row(
        f"{_OURS}.cross_attention.linear_kv",
        (f"{_THEIRS}.cross_attention.wk", f"{_THEIRS}.cross_attention.wv"),
        "G E",
        Layout.PER_HEAD,
        cut=0,
        parts=("cross_attn.k", "cross_attn.v"),
    ),
    *_attention_tail("cross_attention", "cross_attention", part="cross_attn.proj"),
)
"""Cross-attention to the text, of the networks that take one."""

MLP_ROWS: tuple[Row, ...] = (
    _copy(f"{_OURS}.pre_mlp_layernorm", f"{_THEIRS}.ffn_norm", "D"),
    _row(
        f"{_OURS}.mlp.linear_fc1",
        (f"{_THEIRS}.feed_forward.w1", f"{_THEIRS}.feed_forward.w3"),
        "F D",
        Layout.CONCAT,
        cut=0,
        parts=("mlp.fc1.gate", "mlp.fc1.up"),
    ),
    _copy(f"{_OURS}.mlp.linear_fc2", f"{_THEIRS}.feed_forward.w2", "D F", cut=1, part="mlp.fc2"),
)
"""Gated MLP of one layer."""


_CUTS = {name: row.cut for row in FIRST_ROWS + SELF_ROWS + CROSS_ROWS + MLP_ROWS + LAST_ROWS for name in row.original}
_LAYER = re.compile(r"layers\.(\d+)\.")

_PROBES = {
    "tok_embeddings.weight": "V D",
    "output.weight": "O D",
    "layers.0.attention.q_norm.weight": "K",
    "layers.0.attention.wq.weight": "N D",
    "layers.0.attention.wk.weight": "G D",
    "layers.0.feed_forward.w1.weight": "F D",
}
"""Published tensors whose shapes fix every size between them, except the text's."""


class AutoregressiveNames(Names):
    """Names of the autoregressive networks."""

    prefix = "model."
    marks = re.compile(r"tok_embeddings\.|layers\.\d+\.(attention|cross_attention|feed_forward)(_norm)?\.")
    in_parts = True

    def rows(self, fields: Mapping[str, Any]) -> tuple[Row, ...]:
        """Return the rows of the network that `fields` of `ARConfig` describe."""
        text, every = fields.get("crossattn_emb_channels"), fields.get("insert_cross_attn_every_k_layers", 1)
        rows = list(FIRST_ROWS)
        for i in range(int(fields["num_layers"])):
            cross = CROSS_ROWS if text and i % every == 0 else ()
            rows += [row.of_block(i) for row in SELF_ROWS + cross + MLP_ROWS]
        return (*rows, *LAST_ROWS)

    def sizes(self, fields: Mapping[str, Any]) -> dict[str, int]:
        """Return the values of the symbols in `Row.shapes`.

        D hidden size, K head width, N rows of all query heads, G rows of all key heads, F MLP size, V embedding rows,
        O output rows, E text width.
        """
        K = int(fields["kv_channels"])
        return {
            "D": int(fields["hidden_size"]),
            "K": K,
            "N": K * int(fields["num_attention_heads"]),
            "G": K * int(fields["num_query_groups"]),
            "F": int(fields["ffn_hidden_size"]),
            "V": int(fields["input_vocab_size"]),
            "O": int(fields["vocab_size"]),
            "E": int(fields["crossattn_emb_channels"]),
        }

    def infer(self, state: Mapping[str, Tensor], *, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the fields of `ARConfig` that the shapes of published weights fix."""
        size: dict[str, int] = {}
        for name, symbols in _PROBES.items():
            if name not in state:
                raise UserError(
                    f"Not a Cosmos autoregressive network: '{name}' is missing ({len(state)} tensors found)."
                )
            size.update(zip(symbols.split(), state[name].shape, strict=False))
        if size["N"] % size["K"] or size["G"] % size["K"] or size["N"] % size["G"]:
            raise UserError(
                f"Not a Cosmos autoregressive network: {size['N']} rows of queries and {size['G']} of keys are not "
                f"whole heads of width {size['K']}, the same number of queries for each key."
            )
        num_layers = 1 + max(int(match[1]) for name in state if (match := _LAYER.match(name)))
        text_keys = "layers.{}.cross_attention.wk.weight"
        with_text = [i for i in range(num_layers) if text_keys.format(i) in state]
        return {
            "num_layers": num_layers,
            "hidden_size": size["D"],
            "num_attention_heads": size["N"] // size["K"],
            "num_query_groups": size["G"] // size["K"],
            "kv_channels": size["K"],
            "ffn_hidden_size": size["F"],
            "vocab_size": size["O"],
            "input_vocab_size": size["V"],
            "crossattn_emb_channels": int(state[text_keys.format(with_text[0])].shape[1]) if with_text else 0,
            "insert_cross_attn_every_k_layers": _spacing(with_text, num_layers),
        }

    def cut_of(self, name: str) -> int | None:
        """Return the dimension along which tensor-parallel files cut a tensor; None for one that all of them hold."""
        pattern = _LAYER.sub("layers.{i}.", name, count=1)
        if pattern not in _CUTS:
            raise UserError(f"'{name}' is no tensor of a Cosmos autoregressive network.")
        return _CUTS[pattern]

    def check_parts(self, fields: Mapping[str, Any], size: int) -> None:
        """Raise unless a network can be cut into `size` tensor-parallel files."""
        counts = {
            "heads": int(fields["num_attention_heads"]),
            "key/value heads": int(fields["num_query_groups"]),
            "embedding rows": int(fields["input_vocab_size"]),
            "output rows": int(fields["vocab_size"]),
            "MLP rows": int(fields["ffn_hidden_size"]),
        }
        require_divisor(f"--tensor-parallel {size}", size, counts)


def _spacing(with_text: Sequence[int], num_layers: int) -> int:
    """Return k, where every k-th layer has cross-attention, beginning with the first."""
    if len(with_text) < 2:
        return num_layers if with_text else 1
    return with_text[1] - with_text[0]

"""The one table of the autoregressive networks' parameter names: ours (Megatron GPT's) and the published original ones.

Source: NVIDIA/Cosmos `cosmos1/models/autoregressive/nemo/cosmos.py` and `cosmos_video2world.py` (importers);
cosmos-predict1 `scripts/shard_autoregressive_base_checkpoints.py` for what tensor-parallel files are cut along.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from cosmos_nemo.errors import UserError
from cosmos_nemo.families.family import Family
from cosmos_nemo.families.rows import Layout, Naming, Row

if TYPE_CHECKING:
    from cosmos_nemo.models.autoregressive.config import ARConfig
    from cosmos_nemo.models.autoregressive.model import AutoregressiveTransformer


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


def table(fields: Mapping[str, Any]) -> tuple[Row, ...]:
    """All rows of the network that `fields` of `ARConfig` describe."""
    rows = list(FIRST_ROWS)
    for i in range(int(fields["num_layers"])):
        has_cross = fields.get("crossattn_emb_channels") and i % fields.get("insert_cross_attn_every_k_layers", 1) == 0
        rows += [row.of_block(i) for row in SELF_ROWS + (CROSS_ROWS if has_cross else ()) + MLP_ROWS]
    return (*rows, *LAST_ROWS)


def network_sizes(fields: Mapping[str, Any]) -> dict[str, int]:
    """Values of the symbols in `Row.shapes`, from the network-describing fields of `ARConfig`.

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


_CUTS = {name: row.cut for row in FIRST_ROWS + SELF_ROWS + CROSS_ROWS + MLP_ROWS + LAST_ROWS for name in row.original}
_LAYER = re.compile(r"layers\.(\d+)\.")


def cut_of(name: str) -> int | None:
    """The dimension along which tensor-parallel files are cut, None for a tensor that all of them hold.

    Raises:
        UserError: no tensor of these networks has this prefix-free published name.
    """
    pattern = _LAYER.sub("layers.{i}.", name, count=1)
    if pattern not in _CUTS:
        raise UserError(f"'{name}' is no tensor of a Cosmos autoregressive network.")
    return _CUTS[pattern]


_PROBES = {
    "tok_embeddings.weight": "V D",
    "output.weight": "O D",
    "layers.0.attention.q_norm.weight": "K",
    "layers.0.attention.wq.weight": "N D",
    "layers.0.attention.wk.weight": "G D",
    "layers.0.feed_forward.w1.weight": "F D",
}
"""Published tensors whose shapes fix every size between them, except the text's."""


def infer(state: Mapping[str, Tensor], naming: Naming) -> dict[str, Any]:
    """Fields of `ARConfig` that the shapes of prefix-free published weights fix.

    Raises:
        UserError: a tensor that fixes a size is missing or has an impossible shape.
    """
    size: dict[str, int] = {}
    for name, symbols in _PROBES.items():
        if name not in state:
            raise UserError(f"Not a Cosmos autoregressive network: '{name}' is missing ({len(state)} tensors found).")
        size.update(zip(symbols.split(), state[name].shape, strict=False))
    if size["N"] % size["K"] or size["G"] % size["K"] or size["N"] % size["G"]:
        raise UserError(
            f"Not a Cosmos autoregressive network: {size['N']} rows of queries and {size['G']} of keys are not whole "
            f"heads of width {size['K']}, the same number of queries for each key."
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


def _spacing(with_text: Sequence[int], num_layers: int) -> int:
    """k, where every k-th layer has cross-attention, beginning with the first."""
    if len(with_text) < 2:
        return num_layers if with_text else 1
    return with_text[1] - with_text[0]


def task_of(fields: Mapping[str, Any]) -> str:
    """One task for all of them."""
    return "autoregressive"


def make_config(**fields: Any) -> ARConfig:
    """A config of this family."""
    from cosmos_nemo.models.autoregressive.config import ARConfig

    return ARConfig(**fields)


def make_model(config: ARConfig) -> AutoregressiveTransformer:
    """The network of a config, or this pipeline stage's part of it, in the current model-parallel world."""
    from megatron.core import parallel_state

    from cosmos_nemo.models.autoregressive.model import AutoregressiveTransformer

    return AutoregressiveTransformer(
        config,
        pre_process=parallel_state.is_pipeline_first_stage(),
        post_process=parallel_state.is_pipeline_last_stage(),
    )


def named() -> Mapping[str, type]:
    """The named sizes."""
    from cosmos_nemo.models.autoregressive.config import AUTOREGRESSIVE as SIZES

    return SIZES


_UNSTORED = (
    "num_prefix_tokens",
    "rotary_base",
    "use_yarn",
    "yarn_original_latent_shape",
    "yarn_scale",
    "yarn_beta_fast",
    "yarn_beta_slow",
    "use_abs_pos_emb",
)
"""Fields that positions depend on; no tensor of a published file tells them."""

AUTOREGRESSIVE = Family(
    name="autoregressive",
    title="Cosmos autoregressive",
    prefix="model.",
    ema_prefix=None,
    recognises=re.compile(r"tok_embeddings\.|layers\.\d+\.(attention|cross_attention|feed_forward)(_norm)?\."),
    table=table,
    network_sizes=network_sizes,
    infer=infer,
    fields=(
        "num_layers",
        "hidden_size",
        "num_attention_heads",
        "num_query_groups",
        "kv_channels",
        "ffn_hidden_size",
        "vocab_size",
        "input_vocab_size",
        "crossattn_emb_channels",
        "insert_cross_attn_every_k_layers",
        *_UNSTORED,
    ),
    unstored=_UNSTORED,
    unstored_words="what positions depend on (YaRN, absolute sinusoid, prefix tokens)",
    named=named,
    make_config=make_config,
    make_model=make_model,
    task_of=task_of,
    size_fields={
        "num_layers": "number of layers",
        "hidden_size": "hidden size",
        "num_attention_heads": "number of heads",
        "num_query_groups": "number of key heads",
        "ffn_hidden_size": "MLP size",
        "vocab_size": "output rows",
        "input_vocab_size": "embedding rows",
        "crossattn_emb_channels": "text width",
    },
    block_prefix="decoder.layers.",
    cut_of=cut_of,
)

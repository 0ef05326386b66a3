"""Check rotary tables and the absolute position embedding."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cosmos_nemo.errors import UserError
from cosmos_nemo.golden.autoregressive.build import TEXT_TO_VIDEO, position_settings
from cosmos_nemo.golden.compare import Comparison, compare
from cosmos_nemo.golden.manifest import Case, Tensors

if TYPE_CHECKING:
    from cosmos_nemo.models.autoregressive.config import ARConfig

_EMBEDDING = re.compile(r"d(?P<dim>\d+)_(?P<T>\d+)x(?P<H>\d+)x(?P<W>\d+)")

SUMS = {"rtol": 1e-6}
"""Tolerance of sums over whole tables, which cancel little."""


def check_of_model(config: "ARConfig", case: Case, io: Tensors) -> list[Comparison]:
    """Compare the tables that a network's file records."""
    from cosmos_nemo.models.autoregressive.positions import absolute_embedding

    latent, tolerance = tuple(case.setting("latent")), case.allowed("activations")
    comparisons = _check_frequencies(config, "", io, tolerance)
    if "rope_cos" in io:
        angles = _angles(config, latent, io["rope_cos"].shape[0])
        comparisons += [
            compare(f"rope_{name}", function(angles), io[f"rope_{name}"], tolerance)
            for name, function in (("cos", torch.cos), ("sin", torch.sin))
        ]
    if "abs_pos_emb_bf16" in io:
        golden = io["abs_pos_emb_bf16"]
        table = _padded(absolute_embedding(config, latent), golden.shape[0]).bfloat16()
        comparisons.append(compare("abs_pos_emb_bf16", table, golden, {"atol": 0.0, "rtol": 2**-8}))
    return comparisons


def check_ar_rope(case: Case) -> list[Comparison]:
    """Compare sampled rows of full-size tables, their frequencies, and sums over all rows."""
    io = case.load()
    comparisons = []
    for name, table in _tables(case).items():
        config = _config(table)
        angles = _angles(config, tuple(table["latent_shape"]), table["table_rows"])
        tolerance = case.allowed("activations")
        rows = io[f"{name}.rows"]
        comparisons += _check_frequencies(config, f"{name}.", io, tolerance)
        for quantity, values in (("angles", angles), ("cos", angles.cos()), ("sin", angles.sin())):
            comparisons.append(compare(f"{name}.{quantity}", values[rows], io[f"{name}.{quantity}"], tolerance))
            key = f"{quantity.removesuffix('s')}_sum"
            if key in table:
                total = torch.tensor(table[key], dtype=torch.float64)
                comparisons.append(compare(f"{name}.{key}", values.double().sum(), total, SUMS))
    return comparisons


def check_abs_pos_emb(case: Case) -> list[Comparison]:
    """Compare sampled rows of full-size sinusoids and the sum over all rows."""
    from cosmos_nemo.models.autoregressive.positions import absolute_embedding

    io = case.load()
    # Only networks that read text have it: one zero row for the begin of the video, zero rows up to a multiple.
    multiple = case.config.get("pad_to_multiple_of", 64)
    comparisons = []
    for name in sorted({key.split(".")[0] for key in io}):
        match = _EMBEDDING.fullmatch(name)
        if match is None:
            raise UserError(f"{io.file}: '{name}' is not dWIDTH_TxHxW")
        rows = io[f"{name}.rows"]
        latent = (int(match["T"]), int(match["H"]), int(match["W"]))
        settings = {"dim": int(match["dim"]), "training_type": TEXT_TO_VIDEO, **case.config}
        table = absolute_embedding(_config(settings), latent)
        table = _padded(table, -(-len(table) // multiple) * multiple)
        tolerance = case.allowed("activations")
        comparisons.append(compare(f"{name}.emb_fp32", table[rows], io[f"{name}.emb_fp32"], tolerance))
        comparisons.append(compare(f"{name}.sum", table.double().sum(), io[f"{name}.sum"], SUMS))
    return comparisons


def _tables(case: Case) -> Mapping[str, Mapping[str, Any]]:
    tables = case.extra.get("cases")
    if not isinstance(tables, dict) or not tables:
        raise UserError("the manifest lists no 'cases' of tables")
    return tables


def _config(table: Mapping[str, Any]) -> "ARConfig":
    """Return a network of one head whose width is the table's."""
    from cosmos_nemo.models.autoregressive.config import ARConfig

    dim = table["dim"]
    return ARConfig(num_layers=1, hidden_size=dim, num_attention_heads=1, kv_channels=dim, **position_settings(table))


def _angles(config: "ARConfig", latent: tuple[int, int, int], rows: int) -> Tensor:
    """Angles [rows, K] as upstream keeps them: both halves, zero rows at the end."""
    from cosmos_nemo.models.autoregressive.positions import rotary_angles

    half = _padded(rotary_angles(config, latent), rows)
    return torch.cat((half, half), dim=-1)


def _padded(table: Tensor, rows: int) -> Tensor:
    return F.pad(table, (0, 0, 0, rows - table.shape[0]))


def _check_frequencies(
    config: "ARConfig", prefix: str, io: Tensors, tolerance: Mapping[str, float]
) -> list[Comparison]:
    from cosmos_nemo.models.autoregressive.positions import axis_dims, rotary_frequencies

    dim_t, dim_h, _ = axis_dims(config.head_dim)
    frames, height, _ = config.yarn_original_latent_shape
    comparisons = []
    for axis, dim, length in (("spatial", dim_h, height), ("temporal", dim_t, frames)):
        name = f"{prefix}inv_freq_{axis}"
        if name in io:
            comparisons.append(compare(name, rotary_frequencies(config, dim, length), io[name], tolerance))
    return comparisons

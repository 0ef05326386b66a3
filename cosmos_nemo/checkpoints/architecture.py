"""The part of a network's config that its weights depend on: written beside them, read to build the same network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.families import FAMILIES, family_of_fields
from cosmos_nemo.families.family import Family
from cosmos_nemo.parallel.process import current_sizes
from cosmos_nemo.runs.layout import RUN_FILE, CheckpointInfo

FAMILY_FIELD = "family"
"""Entry of a description that names the family; descriptions without one are of Predict2 networks."""


def architecture_of(config: Any) -> dict[str, Any]:
    """The network-describing fields of a config (a `DiTConfig`, an `ARConfig`), ready for JSON."""
    family = _family_of_config(config)
    return {FAMILY_FIELD: family.name, **{name: getattr(config, name) for name in family.fields}}


def _family_of_config(config: Any) -> Family:
    """The family whose fields a config has."""
    return next(family for family in FAMILIES if all(hasattr(config, name) for name in family.fields))


def build_config(architecture: Mapping[str, Any], *, dtype: torch.dtype, **parallel: Any) -> Any:
    """A config of this network.

    Args:
        architecture: network-describing fields; other keys are left aside, so a whole dumped config will do.
        dtype: parameter and compute dtype, float32 or bfloat16.
        **parallel: further config fields, e.g. `tensor_model_parallel_size`.

    Raises:
        UserError: a size is missing.
    """
    family = family_of_fields(architecture)
    fields = {name: architecture[name] for name in family.fields if name in architecture}
    missing = [n for n in ("num_layers", "hidden_size", "num_attention_heads") if n not in fields]
    if missing:
        raise UserError(f"The model description lacks {', '.join(missing)}; it is not one of this project's run.json.")
    return family.make_config(
        **fields,
        params_dtype=dtype,
        pipeline_dtype=dtype,
        bf16=dtype is torch.bfloat16,
        # The weights are about to be overwritten; initialising 14 billion of them would take minutes.
        perform_initialization=False,
        **parallel,
    )


def build_model(architecture: Mapping[str, Any], *, dtype: torch.dtype, device: torch.device | str = "cpu") -> Any:
    """An uninitialised network in the current model-parallel world, without gradients, on `device`.

    Args:
        architecture: network-describing fields, see `build_config`.
        dtype: parameter dtype.
        device: where it is put.

    Returns:
        the model in eval mode; its weights are arbitrary until something is loaded.
    """
    config = build_config(
        architecture,
        dtype=dtype,
        **asdict(current_sizes()),
        # Made where it stays: a network that is only converted must not have to fit on a GPU.
        use_cpu_initialization=torch.device(device).type == "cpu",
    )
    model = family_of_fields(architecture).make_model(config)
    return model.to(device=device, dtype=dtype).eval().requires_grad_(False)


def task_of(architecture: Mapping[str, Any]) -> str:
    """What the network is for: `video2world`, `text2image`, `autoregressive`."""
    return family_of_fields(architecture).task_of(architecture)


def run_architecture(info: CheckpointInfo) -> dict[str, Any]:
    """The network-describing fields that a training run recorded.

    Raises:
        UserError: the run has no run.json, or it does not describe a model.
    """
    fields = info.run.get("model")
    if not isinstance(fields, Mapping):
        raise UserError(f"{info.run_dir / RUN_FILE} is missing or names no model; restore it from the training run.")
    names = (FAMILY_FIELD, *family_of_fields(fields).fields)
    return {name: fields[name] for name in names if name in fields}


def size_words(architecture: Mapping[str, Any]) -> str:
    """A network in a few words, for messages."""
    return (
        f"{task_of(architecture)}, {architecture['num_layers']} blocks, hidden size {architecture['hidden_size']}, "
        f"{architecture['num_attention_heads']} heads"
    )

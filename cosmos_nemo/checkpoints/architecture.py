"""The part of a DiT's config that its weights depend on: written beside them, read to build the same network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from cosmos_nemo.checkpoints.layout import RUN_FILE, CheckpointInfo
from cosmos_nemo.errors import UserError

if TYPE_CHECKING:
    from cosmos_nemo.models.dit.config import DiTConfig
    from cosmos_nemo.models.dit.model import DiT

ARCHITECTURE_FIELDS = (
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
)
"""Fields of `DiTConfig` that describe the network, as against how it is run."""


def architecture_of(config: DiTConfig) -> dict[str, Any]:
    """The network-describing fields of a config, ready for JSON."""
    return {name: getattr(config, name) for name in ARCHITECTURE_FIELDS}


def build_config(architecture: Mapping[str, Any], *, dtype: torch.dtype, **parallel: Any) -> DiTConfig:
    """A config of this network.

    Args:
        architecture: network-describing fields; other keys are left aside, so a whole dumped config will do.
        dtype: parameter and compute dtype, float32 or bfloat16.
        **parallel: further `DiTConfig` fields, e.g. `tensor_model_parallel_size`.

    Raises:
        UserError: a size is missing.
    """
    from cosmos_nemo.models.dit.config import DiTConfig

    fields = {name: architecture[name] for name in ARCHITECTURE_FIELDS if name in architecture}
    missing = [n for n in ("num_layers", "hidden_size", "num_attention_heads") if n not in fields]
    if missing:
        raise UserError(f"The model description lacks {', '.join(missing)}; it is not one of this project's run.json.")
    return DiTConfig(
        **fields,
        params_dtype=dtype,
        bf16=dtype is torch.bfloat16,
        # The weights are about to be overwritten; initialising 14 billion of them would take minutes.
        perform_initialization=False,
        **parallel,
    )


def build_model(architecture: Mapping[str, Any], *, dtype: torch.dtype, device: torch.device | str = "cpu") -> DiT:
    """An uninitialised DiT in the current model-parallel world, without gradients, on `device`.

    Args:
        architecture: network-describing fields, see `build_config`.
        dtype: parameter dtype.
        device: where it is put.

    Returns:
        the model in eval mode; its weights are arbitrary until something is loaded.
    """
    from megatron.core import parallel_state

    from cosmos_nemo.models.dit.model import DiT

    config = build_config(
        architecture,
        dtype=dtype,
        tensor_model_parallel_size=parallel_state.get_tensor_model_parallel_world_size(),
        context_parallel_size=parallel_state.get_context_parallel_world_size(),
        # Made where it stays: a network that is only converted must not have to fit on a GPU.
        use_cpu_initialization=torch.device(device).type == "cpu",
    )
    return DiT(config).to(device=device, dtype=dtype).eval().requires_grad_(False)


def task_of(architecture: Mapping[str, Any]) -> str:
    """`video2world` for a network with a condition-mask channel, else `text2image`."""
    return "video2world" if architecture.get("video_condition") else "text2image"


def run_architecture(info: CheckpointInfo) -> dict[str, Any]:
    """The network-describing fields that a training run recorded.

    Raises:
        UserError: the run has no run.json, or it does not describe a model.
    """
    fields = info.run.get("model")
    if not isinstance(fields, Mapping):
        raise UserError(f"{info.run_dir / RUN_FILE} is missing or names no model; restore it from the training run.")
    return {name: fields[name] for name in ARCHITECTURE_FIELDS if name in fields}


def size_words(architecture: Mapping[str, Any]) -> str:
    """A network in a few words, for messages."""
    return (
        f"{task_of(architecture)}, {architecture['num_layers']} blocks, hidden size {architecture['hidden_size']}, "
        f"{architecture['num_attention_heads']} heads"
    )

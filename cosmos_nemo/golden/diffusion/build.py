"""From a diffusion case to this project's network and what the network is given."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from cosmos_nemo import families
from cosmos_nemo.errors import UserError
from cosmos_nemo.golden.manifest import Case, Tensors
from cosmos_nemo.models.dit.conditions import Conditions
from cosmos_nemo.parallel.process import World

if TYPE_CHECKING:
    from cosmos_nemo.models.dit.config import DiTConfig
    from cosmos_nemo.models.dit.model import DiT

VIDEO_CONDITION = {"MinimalV1LVGDiT": True, "MiniTrainDIT": False}
"""Upstream's network classes, and whether they append the condition-mask channel."""

FIXED = {
    "pos_emb_cls": "rope3d",
    "pos_emb_interpolation": "crop",
    "use_adaln_lora": True,
    "extra_per_block_abs_pos_emb": False,
}
"""Upstream settings that every published Predict2 network has at this value; no other value is built here."""


def build_model(case: Case, world: World, *, weights: Mapping[str, Tensor]) -> "DiT":
    """Return this project's network for a case's config, holding the given published weights.

    Args:
        case: its config has upstream's names.
        world: tensor-parallel size and device.
        weights: under original or diffusers names.

    Raises:
        IndivisibleError: the network cannot be cut at this tensor-parallel size.
        UserError: the config asks for something this project does not build, or the weights do not fit.
    """
    from cosmos_nemo.checkpoints.convert import load_published_into
    from cosmos_nemo.models.dit.model import DiT

    config = build_config(case, tensor_model_parallel_size=world.sizes.tensor_model_parallel_size)
    model = families.of_config(config).build(config)
    assert isinstance(model, DiT)
    load_published_into(model, weights)
    model.to(world.device)
    return model


def build_config(case: Case, *, tensor_model_parallel_size: int) -> "DiTConfig":
    """Translate upstream's network settings into a Predict2Config.

    Raises:
        UserError: a setting that this project does not build.
    """
    from cosmos_nemo.models.dit.config import Predict2Config

    net_class = case.setting("net_class")
    if net_class not in VIDEO_CONDITION:
        raise UserError(f"net_class '{net_class}' is not one of {sorted(VIDEO_CONDITION)}")
    for key, value in FIXED.items():
        if case.config.get(key, value) != value:
            raise UserError(f"{key}={case.config[key]!r} is not built; every published network has {value!r}")
    text_width = case.setting("crossattn_emb_channels")
    if case.config.get("crossattn_proj_in_channels", text_width) != text_width:
        raise UserError("a text projection (crossattn_proj_in_channels != crossattn_emb_channels) is not built")
    width = case.setting("model_channels")
    fields = families.by_name(Predict2Config.family).fields
    return Predict2Config(
        num_layers=case.setting("num_blocks"),
        hidden_size=width,
        num_attention_heads=case.setting("num_heads"),
        ffn_hidden_size=int(width * case.setting("mlp_ratio")),
        video_condition=VIDEO_CONDITION[net_class],
        tensor_model_parallel_size=tensor_model_parallel_size,
        # The other fields that describe a network have upstream's names.
        **{key: case.config[key] for key in fields if key in case.config},
    )


def conditions(io: Tensors) -> Conditions:
    """Return what a file gives the network beside latents and timesteps."""
    return Conditions(
        crossattn_emb_B_L_E=io["in.crossattn_emb"],
        condition_mask_B_1_T_H_W=io.get("in.condition_video_input_mask"),
        padding_mask_B_1_H_W=io.get("in.padding_mask"),
        fps_B=io.get("in.fps"),
    )

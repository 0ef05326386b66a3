"""Builds this project's network for a case, and checks its forward pass."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cosmos_nemo import families
from cosmos_nemo.errors import UserError
from cosmos_nemo.golden.compare import Comparison, compare, compare_names, failed
from cosmos_nemo.golden.manifest import Case, Tensors
from cosmos_nemo.models.common.rope import rope_angles
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

_MODULES = (
    (re.compile(r"mid\.x_embedder"), "patch_embed"),
    (re.compile(r"mid\.(?:t_embedder\.0|timestep_sinusoid)"), "time_embed.linear_1:input"),
    (re.compile(r"mid\.t_embedder\.1"), "time_embed"),
    (re.compile(r"mid\.t_embedding_norm"), "time_embed.norm"),
    (re.compile(r"mid\.block(\d+)"), r"blocks.\1"),
    (re.compile(r"mid\.block(\d+)\.(self_attn|cross_attn|mlp)"), r"blocks.\1.\2"),
    (re.compile(r"mid\.final_layer"), "final"),
)
"""Names of golden intermediates -> the module of ours whose output (or input) it is."""


def check_forward(case: Case, world: World) -> list[Comparison]:
    """Compare a network's output and intermediates, and the same weights read under diffusers names."""
    model = build_model(case, world, weights=case.load("weights"))
    io = case.load()
    network = conditions(io).to(world.device).bind(model)
    with torch.no_grad(), intermediates(model, io) as seen:
        out = network(io["in.x_B_C_T_H_W"].to(world.device), io["in.timesteps"].to(world.device))
    comparisons = [_check_angles(case, model.config, io)] if "mid.rope_angles" in io else []
    comparisons += [compare(name, value, io[name], case.tolerance) for name, value in seen.items()]
    unknown = [name for name in io if name.startswith("mid.") and name not in seen and name != "mid.rope_angles"]
    comparisons += [failed(name, "this project has no such intermediate") for name in unknown]
    comparisons.append(compare("out", out, io["out"], case.tolerance))
    if "weights_diffusers" in case.files:
        comparisons += _check_diffusers_names(case, world, model)
    return comparisons


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

    config = build_config(case, tensor_model_parallel_size=world.sizes.tensor_model_parallel_size)
    model = families.of_config(config).build(config)
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


@contextmanager
def intermediates(model: nn.Module, io: Tensors) -> Iterator[dict[str, Tensor]]:
    """Record, while the context lasts, the activations for which the file has a golden `mid.*` value.

    Ours are [tokens or frames, B, width], golden ones [B, ..., width]. They come in the order of their computation,
    so the first that deviates tells where a port went wrong.
    """
    seen: dict[str, Tensor] = {}
    modules = dict(model.named_modules())
    handles = []
    for name, expected in io.items():
        path, _, side = _module_path(name).partition(":")
        if path not in modules:
            continue

        def record(
            module: nn.Module,
            inputs: tuple[Any, ...],
            output: Any,
            *,
            name: str = name,
            side: str = side,
            shape: torch.Size = expected.shape,
        ) -> None:
            value = inputs[0] if side == "input" else output
            value = value[0] if isinstance(value, tuple) else value
            seen[name] = value.transpose(0, 1).reshape(shape)

        handles.append(modules[path].register_forward_hook(record))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _module_path(name: str) -> str:
    """Return the path of the module that makes a golden intermediate, or a path that no module has."""
    for pattern, path in _MODULES:
        if match := pattern.fullmatch(name):
            return match.expand(path)
    return "?"


def _check_angles(case: Case, config: "DiTConfig", io: Tensors) -> Comparison:
    """Compare the rotation angles of the case's token grid."""
    _, _, T, H, W = io["in.x_B_C_T_H_W"].shape
    grid = (T // config.patch_temporal, H // config.patch_spatial, W // config.patch_spatial)
    fps = io["in.fps"][0].item() if config.rope_enable_fps_modulation and "in.fps" in io else None
    angles = rope_angles(grid, config.head_dim, config.rope_ratios, fps=fps)
    expected = io["mid.rope_angles"]
    return compare("mid.rope_angles", angles.reshape(expected.shape), expected, case.tolerance)


def _check_diffusers_names(case: Case, world: World, model: nn.Module) -> list[Comparison]:
    """Load the diffusers file and export it under both name families; every tensor must come back bit for bit."""
    from cosmos_nemo.checkpoints.convert import load_published_into, published_state_dict
    from cosmos_nemo.checkpoints.published import select_network

    comparisons = []
    load_published_into(model, case.load("weights_diffusers"))
    for naming, role in (("diffusers", "weights_diffusers"), ("original", "weights")):
        exported = published_state_dict(model, naming=naming, prefix="")
        golden = select_network(case.load(role))
        comparisons += compare_names(f"names of {role}", exported, golden)
        changed = [n for n in golden if n in exported and not torch.equal(exported[n], golden[n])]
        if changed:
            comparisons.append(failed(f"round trip of {role}", f"changed: {', '.join(changed)}"))
    return comparisons

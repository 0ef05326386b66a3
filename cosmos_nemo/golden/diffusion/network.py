"""Check a DiT's forward pass, and its weights under every published naming."""

from typing import TYPE_CHECKING

import torch
from torch import nn

from cosmos_nemo.golden.compare import Comparison, compare, compare_names, failed
from cosmos_nemo.golden.diffusion.build import build_model, conditions
from cosmos_nemo.golden.diffusion.intermediates import intermediates
from cosmos_nemo.golden.manifest import Case, Tensors
from cosmos_nemo.models.common.rope import rope_angles
from cosmos_nemo.parallel.process import World

if TYPE_CHECKING:
    from cosmos_nemo.models.dit.config import DiTConfig


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

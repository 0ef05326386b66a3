"""Checks LoRA by merging the adapters into the weights they adapt."""

import torch

from cosmos_nemo.checkpoints.lora import merge_lora
from cosmos_nemo.errors import UserError
from cosmos_nemo.golden.compare import Comparison, compare
from cosmos_nemo.golden.manifest import Case, Tensors
from cosmos_nemo.golden.network import build_model, conditions
from cosmos_nemo.parallel.process import World


def check_lora(case: Case, world: World) -> list[Comparison]:
    """Compare the network with merged adapters, and with the base weights alone.

    This checks the adapters' names and arithmetic, not a network that holds them as layers of their own.
    """
    io, weights = case.load(), case.load("weights")
    rank, alpha = case.setting("lora_rank"), case.setting("lora_alpha")
    ranks = {tensor.shape[0] for name, tensor in weights.items() if ".lora_A." in name}
    if ranks != {rank}:
        raise UserError(f"config has lora_rank={rank}, the adapters in {weights.file} have {sorted(ranks)}")
    comparisons = []
    for name, scale in (("out", alpha), ("out_without_lora", 0.0)):
        if name not in io and name != "out":
            continue
        model = build_model(case, world, weights=merge_lora(weights, alpha=scale))
        comparisons.append(compare(f"{name}, merged weights", _forward(model, io, world), io[name], case.tolerance))
    return comparisons


@torch.no_grad()
def _forward(model: torch.nn.Module, io: Tensors, world: World) -> torch.Tensor:
    """Run the network on the recorded inputs."""
    network = conditions(io).to(world.device).bind(model)
    return network(io["in.x_B_C_T_H_W"].to(world.device), io["in.timesteps"].to(world.device))

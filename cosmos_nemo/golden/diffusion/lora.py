"""Check low-rank adapters: as layers have them, merged into the weights, and left out."""

import torch

from cosmos_nemo import families
from cosmos_nemo.checkpoints.adapters import give_adapters, take_adapters
from cosmos_nemo.checkpoints.published import select_network
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.architecture import Architecture
from cosmos_nemo.golden.compare import Comparison, compare, exactly
from cosmos_nemo.golden.diffusion.build import build_model, conditions
from cosmos_nemo.golden.manifest import Case, Tensors
from cosmos_nemo.models.common.adapters import merge_adapters, without_adapters
from cosmos_nemo.models.common.lora import LoRA
from cosmos_nemo.parallel.process import World


def check_lora(case: Case, world: World) -> list[Comparison]:
    """Compare the network with its adapters live, without them, and with the adapters merged into its weights."""
    io, weights = case.load(), case.load("weights")
    file = weights.file
    state = select_network(weights)
    pattern = families.of_published(state, source=file).names.adapters
    base, matrices = take_adapters(state, pattern, source=file)
    rank = case.setting("lora_rank")
    if matrices.down and matrices.rank != rank:
        raise UserError(f"config has lora_rank={rank}, the adapters in {file} have {matrices.rank}")
    model = build_model(case, world, weights=base)
    network = families.architecture_of(model.config)
    lora = give_adapters(model, network, matrices, alpha=case.setting("lora_alpha"), source=file)
    model.to(world.device)

    comparisons = _check_names(case, network, lora)
    comparisons.append(compare("out", _forward(model, io, world), io["out"], case.tolerance))
    if "out_without_lora" in io:
        with without_adapters(model):
            plain = _forward(model, io, world)
        comparisons.append(compare("out_without_lora", plain, io["out_without_lora"], case.tolerance))
    merge_adapters(model)
    comparisons.append(compare("out, merged weights", _forward(model, io, world), io["out"], case.tolerance))
    return comparisons


def _check_names(case: Case, network: Architecture, lora: LoRA) -> list[Comparison]:
    """Compare what is trained with the reference's own list, where the case has it."""
    if "trainable_parameters" not in case.config:
        return []
    pattern = network.family.names.adapters
    wanted = {network.family.names.bare(name) for name in case.config["trainable_parameters"]}
    names = {name for item in network.adapted(lora) for name in pattern.names_of(item.weight)[1:]}
    note = f"here alone: {sorted(names - wanted)}; in the reference alone: {sorted(wanted - names)}"
    return [exactly("names of adapters", equal=names == wanted, note=note)]


@torch.no_grad()
def _forward(model: torch.nn.Module, io: Tensors, world: World) -> torch.Tensor:
    """Run the network on the recorded inputs."""
    network = conditions(io).to(world.device).bind(model)
    return network(io["in.x_B_C_T_H_W"].to(world.device), io["in.timesteps"].to(world.device))

"""What the tensor-parallel tests run on each rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cosmos_nemo.checkpoints.adapters import Matrices, adapters_of, load_adapters
from cosmos_nemo.checkpoints.convert import load_published_into, published_gradients, published_state_dict
from cosmos_nemo.checkpoints.megatron import load_training_checkpoint, save_imported
from cosmos_nemo.parallel.process import model_parallel_world
from tests.checkpoints.networks import architecture_of, equal, model_of


def round_trips(fields: dict[str, Any], state: dict[str, Tensor], run_dir: str) -> dict[str, bool]:
    """Everything that is checked on two tensor-parallel ranks, in one launch."""
    results = {}
    with model_parallel_world() as world:
        model = model_of(fields)
        load_published_into(model, state)
        results["sharded"] = model.blocks[0].self_attn.linear_qkv.weight.shape[0] == 3 * fields["hidden_size"] // 2
        results["weights"] = equal(published_state_dict(model), state)
        on_first = published_state_dict(model, on_all_ranks=False)
        results["rank 0 only"] = equal(on_first, state) if world.rank == 0 else not on_first
        for parameter in model.parameters():
            parameter.requires_grad_(True).grad = parameter.detach() * 2
        results["gradients"] = equal(published_gradients(model), {name: 2 * value for name, value in state.items()})
        wrong = {name: value for name, value in state.items() if "q_proj" not in name}
        results["strict"] = _refuses(model, wrong)
        save_imported(model, Path(run_dir), recipe="test")
        other = model_of(fields)
        load_training_checkpoint(other, run_dir)
        results["distributed checkpoint"] = equal(published_state_dict(other), state)
    return results


def autoregressive_round_trips(
    fields: dict[str, Any], state: dict[str, Tensor], odd: dict[str, Any], odd_state: dict[str, Tensor], folder: str
) -> dict[str, bool]:
    """Tensor parallel 4, then tensor parallel 2 with two pipeline stages, which reads what the first saved."""
    results = {}
    torch.distributed.init_process_group("gloo")
    with model_parallel_world():
        model = model_of(fields)
        load_published_into(model, state)
        results["tp4"] = equal(published_state_dict(model), state)
        save_imported(model, Path(folder) / "tp4", recipe="test")
        padded = model_of(odd)
        load_published_into(padded, odd_state)
        results["vocabulary that does not divide"] = equal(published_state_dict(padded), odd_state)
    with model_parallel_world(tensor_model_parallel_size=2, pipeline_model_parallel_size=2):
        stage = model_of(fields)
        load_published_into(stage, state)
        held = published_state_dict(stage)
        results["a stage has its part"] = 0 < len(held) < len(state)
        results["tp2 pp2"] = equal(held, {name: tensor for name, tensor in state.items() if name in held})
        other = model_of(fields)
        load_training_checkpoint(other, Path(folder) / "tp4")
        results["tp4 read at tp2 pp2"] = equal(published_state_dict(other), held)
        save_imported(stage, Path(folder) / "tp2_pp2", recipe="test")
    return results


def _refuses(model: torch.nn.Module, state: dict[str, Tensor]) -> bool:
    """Whether incomplete weights are refused with the full shape of the missing tensors in mind."""
    try:
        load_published_into(model, state)
    except ValueError as error:
        return "missing: blocks.{0-1}.self_attn.q_proj.weight" in str(error)
    return False


def adapters_round_trip(cases: list[tuple[dict[str, Any], Any, dict[str, Tensor], dict[str, Tensor]]]) -> list[bool]:
    """Published adapters, cut over all ranks and gathered again."""
    from cosmos_nemo.models.common.adapters import adapted_layers, add_adapters

    results = []
    with model_parallel_world() as world:
        for fields, lora, down, up in cases:
            network = model_of(fields)
            add_adapters(network, lora)
            maps = architecture_of(fields).adapted(lora)
            load_adapters(network, Matrices(down=down, up=up), maps, source="a file")
            found = adapters_of(network, maps)
            _, _, adapters = next(iter(adapted_layers(network)))
            mine, whole = adapters["self_attn.q"].lora_B, found.up[maps[0].weight]
            cut = torch.equal(mine, whole.chunk(world.size)[world.rank])
            results.append(cut and equal(found.down, down) and equal(found.up, up))
    return results

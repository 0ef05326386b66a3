"""What each rank of the parallel DiT tests runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.models.adapted import adapt, trained
from tests.models.dit_cases import batch, mean_square_loss, randomise, tiny_config
from tests.models.parallel import OPTIMIZER, parallel_step, set_parallel_state, whole

Outcome = dict[str, Any]

LAYOUTS: dict[str, dict[str, Any]] = {
    "tp2": {"tensor_model_parallel_size": 2},
    "tp2_sp": {"tensor_model_parallel_size": 2, "sequence_parallel": True},
    "cp2_a2a": {"context_parallel_size": 2},
    "cp2_all_gather": {"context_parallel_size": 2, "cp_comm_type": "all_gather"},
    "dp2_distributed_optimizer": {},
    "tp2_sp_recompute_full": {
        "tensor_model_parallel_size": 2,
        "sequence_parallel": True,
        "recompute_granularity": "full",
    },
    "tp2_sp_recompute_selective": {
        "tensor_model_parallel_size": 2,
        "sequence_parallel": True,
        "recompute_granularity": "selective",
    },
    "cp2_recompute_full": {"context_parallel_size": 2, "recompute_granularity": "full", "recompute_num_layers": 2},
    "cp2_recompute_selective": {"context_parallel_size": 2, "recompute_granularity": "selective"},
}
"""Every way of cutting the network over two processes."""

SHAPES: dict[str, dict[str, Any]] = {
    "odd_tokens": {"frames": 3, "size": (10, 6)},  # 45 tokens: the cut falls inside a frame, one padding token
    "whole_frames": {"frames": 4, "size": (4, 6)},  # each context-parallel rank holds two frames
    "one_frame_each": {"frames": 2, "size": (4, 4)},
}
"""Latent sizes that meet every case of `Layout`."""

ADAPTED = ("tp2", "tp2_sp", "tp2_sp_recompute_full", "tp2_sp_recompute_selective", "cp2_a2a")
"""Layouts that are tried on a frozen network with adapters, too."""


def compare_layouts(checkpoint_dir: str) -> dict[str, Outcome]:
    """Loss, full gradients and parameters after one optimizer step, serially and for every layout and shape."""
    from cosmos_nemo.platform.install import install

    install()
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    outcomes = {}
    for shape_name, shape in SHAPES.items():
        outcomes[f"serial {shape_name}"] = _serial(batch(**shape))
        for name, settings in LAYOUTS.items():
            if shape_name == "odd_tokens" or name in ("tp2_sp", "cp2_a2a", "cp2_all_gather"):
                outcomes[f"{name} {shape_name}"] = _parallel(settings, batch(**shape))
    outcomes["serial adapters"] = _serial(batch(), adapted=True)
    for name in ADAPTED:
        outcomes[f"{name} adapters"] = _parallel(LAYOUTS[name], batch(), adapted=True)
    for name, adapted in (("checkpoint", False), ("checkpoint of adapters", True)):
        outcomes[name] = _checkpoint_across_sizes(f"{checkpoint_dir}/{int(adapted)}", adapted=adapted)
    for name, fresh in (("fresh", _fresh), ("fresh adapters", _fresh_adapters)):
        outcomes[name] = {layout: fresh(settings) for layout, settings in (("serial", {}), ("tp2", LAYOUTS["tp2"]))}
    outcomes["frozen"] = {granularity: _frozen(granularity) for granularity in (None, "full", "selective")}
    return outcomes


def _fresh(settings: dict[str, Any]) -> dict[str, Tensor]:
    """The weights of a new network."""
    from cosmos_nemo.models.dit.model import DiT

    set_parallel_state(settings)
    model = DiT(tiny_config(**settings))
    return {name: whole(parameter, parameter.detach()) for name, parameter in model.named_parameters()}


def _fresh_adapters(settings: dict[str, Any]) -> dict[str, Tensor]:
    """The first matrices of new adapters."""
    from cosmos_nemo.models.common.adapters import add_adapters
    from cosmos_nemo.models.common.lora import LoRA

    model = _model(settings)
    add_adapters(model, LoRA(rank=2), seed=3)
    return {
        name: whole(parameter, parameter.detach()) for name, parameter in model.named_parameters() if "lora_A" in name
    }


def _frozen(granularity: str | None) -> dict[str, Tensor]:
    """Gradients when only a layer of the first block is trained: no input of the blocks requires a gradient."""
    model = _model({"recompute_granularity": granularity})
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("blocks.0.self_attn")
    mean_square_loss(model(**batch())).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}


def _checkpoint_across_sizes(folder: str, *, adapted: bool) -> Outcome:
    """Saves at tensor-parallel size 2 with Megatron's distributed checkpoint, loads at size 1."""
    from megatron.core import dist_checkpointing

    Path(folder).mkdir(exist_ok=True)
    saved = _model(LAYOUTS["tp2_sp"], adapted=adapted)
    dist_checkpointing.save(saved.sharded_state_dict(prefix="module."), folder)
    torch.distributed.barrier()
    wanted = {name: whole(parameter, parameter.detach()) for name, parameter in saved.named_parameters()}
    loaded = _model({}, adapted=adapted)
    for parameter in loaded.parameters():
        parameter.data.zero_()
    state = dist_checkpointing.load(loaded.sharded_state_dict(prefix="module."), folder)
    loaded.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    return {"saved": wanted, "loaded": {name: parameter.detach() for name, parameter in loaded.named_parameters()}}


def _model(settings: dict[str, Any], *, adapted: bool = False) -> Any:
    from cosmos_nemo.models.dit.model import DiT

    set_parallel_state(settings)
    model = DiT(tiny_config(**settings))
    randomise(model)
    if adapted:
        adapt(model)
    return model


def _serial(inputs: dict[str, Tensor], *, adapted: bool = False) -> Outcome:
    """Plain torch, one process: no group larger than one is touched."""
    model = _model({}, adapted=adapted)
    loss = mean_square_loss(model(**inputs))
    loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in trained(model).items()}
    torch.optim.Adam(model.parameters(), **OPTIMIZER).step()
    return {
        "loss": loss.item(),
        "gradients": gradients,
        "parameters": {name: parameter.detach() for name, parameter in model.named_parameters()},
    }


def _parallel(settings: dict[str, Any], inputs: dict[str, Tensor], *, adapted: bool = False) -> Outcome:
    """The same as `_serial` on the cut network, as in training."""

    def forward_step(network: Any, share: int, shares: int) -> Any:
        return network(**{name: value.chunk(shares)[share] for name, value in inputs.items()}), mean_square_loss

    return parallel_step(_model(settings, adapted=adapted), forward_step)

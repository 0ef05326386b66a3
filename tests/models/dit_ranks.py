"""What each rank of the parallel DiT tests runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.models.dit_cases import batch, mean_square_loss, randomise, tiny_config

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


def compare_layouts(checkpoint_dir: str) -> dict[str, Outcome]:
    """Loss, full gradients and parameters after one optimizer step, serially and for every layout and shape."""
    from cosmos_nemo.platform import install

    install()
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    outcomes = {}
    for shape_name, shape in SHAPES.items():
        outcomes[f"serial {shape_name}"] = _serial(batch(**shape))
        for name, settings in LAYOUTS.items():
            if shape_name == "odd_tokens" or name in ("tp2_sp", "cp2_a2a", "cp2_all_gather"):
                outcomes[f"{name} {shape_name}"] = _parallel(settings, batch(**shape))
    outcomes["checkpoint"] = _checkpoint_across_sizes(checkpoint_dir)
    outcomes["fresh"] = {name: _fresh(settings) for name, settings in (("serial", {}), ("tp2", LAYOUTS["tp2"]))}
    outcomes["frozen"] = {granularity: _frozen(granularity) for granularity in (None, "full", "selective")}
    return outcomes


def _fresh(settings: dict[str, Any]) -> dict[str, Tensor]:
    """The weights of a new network."""
    from cosmos_nemo.models.dit import DiT

    _parallel_state(settings)
    model = DiT(tiny_config(**settings))
    return {name: _whole(parameter, parameter.detach()) for name, parameter in model.named_parameters()}


def _frozen(granularity: str | None) -> dict[str, Tensor]:
    """Gradients when only a layer of the first block is trained: no input of the blocks requires a gradient."""
    model = _model({"recompute_granularity": granularity})
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("blocks.0.self_attn")
    mean_square_loss(model(**batch())).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}


def _checkpoint_across_sizes(folder: str) -> Outcome:
    """Saves at tensor-parallel size 2 with Megatron's distributed checkpoint, loads at size 1."""
    from megatron.core import dist_checkpointing

    saved = _model(LAYOUTS["tp2_sp"])
    dist_checkpointing.save(saved.sharded_state_dict(prefix="module."), folder)
    torch.distributed.barrier()
    wanted = {name: _whole(parameter, parameter.detach()) for name, parameter in saved.named_parameters()}
    loaded = _model({})
    for parameter in loaded.parameters():
        parameter.data.zero_()
    state = dist_checkpointing.load(loaded.sharded_state_dict(prefix="module."), folder)
    loaded.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    return {"saved": wanted, "loaded": {name: parameter.detach() for name, parameter in loaded.named_parameters()}}


def _parallel_state(settings: dict[str, Any]) -> None:
    from megatron.core import parallel_state
    from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed

    parallel_state.destroy_model_parallel()
    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=settings.get("tensor_model_parallel_size", 1),
        context_parallel_size=settings.get("context_parallel_size", 1),
    )
    model_parallel_cuda_manual_seed(0, force_reset_rng=True)


def _model(settings: dict[str, Any]) -> Any:
    from cosmos_nemo.models.dit import DiT

    _parallel_state(settings)
    model = DiT(tiny_config(**settings))
    randomise(model)
    return model


def _serial(inputs: dict[str, Tensor]) -> Outcome:
    """Plain torch, one process: no group larger than one is touched."""
    model = _model({})
    loss = mean_square_loss(model(**inputs))
    loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-3).step()
    return {
        "loss": loss.item(),
        "gradients": gradients,
        "parameters": {name: parameter.detach() for name, parameter in model.named_parameters()},
    }


def _parallel(settings: dict[str, Any], inputs: dict[str, Tensor]) -> Outcome:
    """Megatron's DDP, schedule, gradient finalisation and distributed optimizer, as in training."""
    from megatron.core import parallel_state
    from megatron.core.distributed import (
        DistributedDataParallel,
        DistributedDataParallelConfig,
        finalize_model_grads,
    )
    from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
    from megatron.core.pipeline_parallel import get_forward_backward_func

    model = _model(settings)
    config = model.config
    config.finalize_model_grads_func = finalize_model_grads
    ddp_config = DistributedDataParallelConfig(use_distributed_optimizer=True, grad_reduce_in_fp32=True)
    ddp = DistributedDataParallel(config, ddp_config, model)
    optimizer = get_megatron_optimizer(
        OptimizerConfig(
            optimizer="adam",
            lr=1e-3,
            adam_eps=1e-3,
            adam_beta2=0.999,
            weight_decay=0.0,
            clip_grad=0.0,
            use_distributed_optimizer=True,
        ),
        [ddp],
    )
    ddp.train()
    ddp.zero_grad_buffer()
    share = parallel_state.get_data_parallel_rank(), parallel_state.get_data_parallel_world_size()
    inputs = {name: value.chunk(share[1])[share[0]] for name, value in inputs.items()}

    def forward_step(iterator: Any, network: Any) -> Any:
        return network(**inputs), lambda out: ((loss := mean_square_loss(out)), {"loss": loss.detach().clone()})

    (report,) = get_forward_backward_func()(
        forward_step_func=forward_step,
        data_iterator=None,
        model=[ddp],
        num_microbatches=1,
        seq_length=1,
        micro_batch_size=1,
    )
    gradients = _full_gradients(ddp, model)
    optimizer.step()
    loss = report["loss"]
    torch.distributed.all_reduce(loss, group=parallel_state.get_data_parallel_group())
    return {
        "loss": loss.item() / share[1],
        "gradients": gradients,
        "parameters": {name: _whole(parameter, parameter.detach()) for name, parameter in model.named_parameters()},
    }


def _full_gradients(ddp: Any, model: Any) -> dict[str, Tensor]:
    """Undoes the reduce-scatter of the distributed optimizer, then the tensor-parallel cut."""
    for buffer in ddp.buffers:
        for bucket in buffer.buckets:
            group = bucket.data_parallel_group if hasattr(bucket, "data_parallel_group") else buffer.data_parallel_group
            own = bucket.grad_data.chunk(group.size())[group.rank()].clone()
            torch.distributed.all_gather_into_tensor(bucket.grad_data, own, group=group)
    return {name: _whole(parameter, parameter.main_grad) for name, parameter in model.named_parameters()}


def _whole(parameter: Tensor, value: Tensor) -> Tensor:
    """Concatenates tensor-parallel slices; a replicated value must be the same on every rank."""
    from megatron.core import parallel_state

    group = parallel_state.get_tensor_model_parallel_group()
    pieces = [torch.empty_like(value) for _ in range(group.size())]
    torch.distributed.all_gather(pieces, value.contiguous(), group=group)
    if getattr(parameter, "tensor_model_parallel", False):
        return torch.cat(pieces, dim=parameter.partition_dim)
    assert all(torch.equal(piece, pieces[0]) for piece in pieces), "a replicated value differs between ranks"
    return pieces[0].clone()

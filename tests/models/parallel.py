"""One training step on a network cut over processes, with Megatron's own machinery, and whole tensors back from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

OPTIMIZER = {"lr": 1e-3, "eps": 1e-3}
"""Adam's settings on both sides; the large eps makes a step depend on the size of the gradient."""


def set_parallel_state(settings: dict[str, Any]) -> None:
    """Megatron's groups for the sizes in a config's settings."""
    from megatron.core import parallel_state
    from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed

    parallel_state.destroy_model_parallel()
    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=settings.get("tensor_model_parallel_size", 1),
        pipeline_model_parallel_size=settings.get("pipeline_model_parallel_size", 1),
        context_parallel_size=settings.get("context_parallel_size", 1),
    )
    model_parallel_cuda_manual_seed(0, force_reset_rng=True)


def parallel_step(
    model: Any,
    forward_step: Callable[[Any, int, int], tuple[Tensor, Callable[[Tensor], Tensor]]],
    *,
    num_microbatches: int = 1,
    seq_length: int = 1,
    clip_grad: float = 0.0,
) -> dict[str, Any]:
    """Megatron's DDP, schedule, gradient finalisation and distributed optimizer, as in training.

    Args:
        model: the network (this pipeline stage of it).
        forward_step: takes the wrapped network, the index of this share of the batch, and the number of shares (over
            data-parallel ranks and micro batches); returns the network's output and the function that makes it a loss.
        num_microbatches: micro batches per rank.
        seq_length: tokens, for the buffers between pipeline stages.
        clip_grad: largest global gradient norm; 0 for no clipping.

    Returns:
        this rank's part of the mean loss, the gradient norm, whole gradients and whole parameters of this stage.
    """
    from megatron.core import parallel_state
    from megatron.core.distributed import (
        DistributedDataParallel,
        DistributedDataParallelConfig,
        finalize_model_grads,
    )
    from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
    from megatron.core.pipeline_parallel import get_forward_backward_func

    config = model.config
    config.finalize_model_grads_func = finalize_model_grads
    ddp_config = DistributedDataParallelConfig(use_distributed_optimizer=True, grad_reduce_in_fp32=True)
    ddp = DistributedDataParallel(config, ddp_config, model)
    optimizer = get_megatron_optimizer(
        OptimizerConfig(
            optimizer="adam",
            lr=OPTIMIZER["lr"],
            adam_eps=OPTIMIZER["eps"],
            adam_beta2=0.999,
            weight_decay=0.0,
            clip_grad=clip_grad,
            use_distributed_optimizer=True,
        ),
        [ddp],
    )
    ddp.train()
    ddp.zero_grad_buffer()
    share = iter(range(parallel_state.get_data_parallel_rank() * num_microbatches, 1 << 30))
    shares = parallel_state.get_data_parallel_world_size() * num_microbatches

    def step(iterator: Any, network: Any) -> Any:
        output, loss_of = forward_step(network, next(iterator), shares)
        return output, lambda out: ((loss := loss_of(out)), {"loss": loss.detach().clone()})

    reports = get_forward_backward_func()(
        forward_step_func=step,
        data_iterator=share,
        model=[ddp],
        num_microbatches=num_microbatches,
        seq_length=seq_length,
        micro_batch_size=1,
    )
    gradients = full_gradients(ddp, model)
    _, grad_norm, _ = optimizer.step()
    loss = torch.stack([report["loss"] for report in reports]).sum() if reports else torch.zeros(())
    torch.distributed.all_reduce(loss, group=parallel_state.get_data_parallel_group())
    return {
        "loss": loss.item() / shares,
        "grad_norm": grad_norm,
        "gradients": gradients,
        "parameters": {name: whole(parameter, parameter.detach()) for name, parameter in model.named_parameters()},
    }


def full_gradients(ddp: Any, model: Any) -> dict[str, Tensor]:
    """Undoes the reduce-scatter of the distributed optimizer, then the tensor-parallel cut."""
    for buffer in ddp.buffers:
        for bucket in buffer.buckets:
            group = bucket.data_parallel_group if hasattr(bucket, "data_parallel_group") else buffer.data_parallel_group
            own = bucket.grad_data.chunk(group.size())[group.rank()].clone()
            torch.distributed.all_gather_into_tensor(bucket.grad_data, own, group=group)
    trained = ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)
    return {name: whole(parameter, parameter.main_grad) for name, parameter in trained}


def whole(parameter: Tensor, value: Tensor) -> Tensor:
    """Concatenates tensor-parallel slices; a replicated value must be the same on every rank."""
    from megatron.core import parallel_state

    group = parallel_state.get_tensor_model_parallel_group()
    pieces = [torch.empty_like(value) for _ in range(group.size())]
    torch.distributed.all_gather(pieces, value.contiguous(), group=group)
    if getattr(parameter, "tensor_model_parallel", False):
        return torch.cat(pieces, dim=parameter.partition_dim)
    assert all(torch.equal(piece, pieces[0]) for piece in pieces), "a replicated value differs between ranks"
    return pieces[0].clone()


def largest_difference(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> tuple[float, str]:
    """Largest difference of any tensor relative to that tensor's largest entry, with the tensor's name."""
    assert found.keys() == wanted.keys()
    # `max` would pass over a NaN.
    assert all(found[name].isfinite().all() and wanted[name].abs().max() > 0 for name in wanted)
    return max((((found[name] - wanted[name]).abs().max() / wanted[name].abs().max()).item(), name) for name in wanted)

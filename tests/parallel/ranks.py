"""What each rank of the tests of collectives runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cosmos_nemo.parallel.collectives import (
    gather_tokens,
    gather_tokens_for_split_use,
    sum_forward,
    sum_gradient,
)
from cosmos_nemo.parallel.context import heads_to_sequence, sequence_to_heads, split_range


def run_all() -> dict[str, Any]:
    """Values and gradients of every operation, on inputs that are numbered by rank."""
    torch.distributed.init_process_group("gloo")
    group, rank = torch.distributed.group.WORLD, torch.distributed.get_rank()
    x = torch.arange(12.0).view(3, 1, 4) + 100 * rank  # 3 tokens, 1 sample, 4 heads
    return {
        "sum_gradient": _value_and_gradient(lambda v: sum_gradient(v, group), x, rank + 1.0),
        "sum_gradient_of_a_view": _value_and_gradient(lambda v: sum_gradient(v, group).transpose(0, 2), x, rank + 1.0),
        "sum_forward": _value_and_gradient(lambda v: sum_forward(v, group), x, rank + 1.0),
        "gather_tokens": _value_and_gradient(lambda v: gather_tokens(v, group), x, 1.0),
        "gather_tokens_for_split_use": _value_and_gradient(
            lambda v: gather_tokens_for_split_use(v, group), x, rank + 1.0
        ),
        "sequence_to_heads": _value_and_gradient(lambda v: sequence_to_heads(v, group), x, rank + 1.0),
        "round_trip": _value_and_gradient(
            lambda v: heads_to_sequence(sequence_to_heads(v, group), group), x, rank + 1.0
        ),
        "range": split_range(5, group, None),
        "input": x,
    }


def _value_and_gradient(operation: Any, x: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """The result, and the gradient of the sum of ``factor`` times the result."""
    x = x.clone().requires_grad_()
    y = operation(x)
    y.backward(torch.full_like(y, factor))
    return y.detach(), x.grad


def worlds_of_two() -> dict[str, Any]:
    """What the world of a command looks like on two ranks, with and without Megatron, and what it leaves behind."""
    from megatron.core import parallel_state

    from cosmos_nemo.errors import UserError
    from cosmos_nemo.parallel.process import model_parallel_world, process_world

    seen: dict[str, Any] = {}
    with process_world() as world:
        seen["plain"] = (world.rank, world.size, world.sizes, world.gather(f"rank {world.rank}"))
        try:
            with model_parallel_world(context_parallel_size=3):
                pass
        except UserError as error:
            seen["refused"] = (str(error), parallel_state.model_parallel_is_initialized())
        settings: dict[str, dict[str, int]] = {
            "tensor": {},
            "data": {"tensor_model_parallel_size": 1},
            "context": {"context_parallel_size": 2},
        }
        for name, sizes in settings.items():
            with model_parallel_world(**sizes) as cut:
                seen[name] = (cut.sizes, parallel_state.get_data_parallel_world_size())
    seen["joined"] = torch.distributed.is_initialized()
    return seen

"""Collectives with gradients, as small functions.

Every function takes the process group as an argument and is the identity for ``None`` or a group of one.
Names say what happens forward; the docstring says what happens backward.

Megatron's own mappings are not used here for two reasons: they allocate on ``torch.cuda.current_device()``, and
they all-reduce the incoming gradient in place, which is wrong for a gradient that is shared or not contiguous.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup


def group_size(group: ProcessGroup | None) -> int:
    """Number of ranks in ``group``; 1 for None."""
    return 1 if group is None else group.size()


def group_rank(group: ProcessGroup | None) -> int:
    """This process's rank in ``group``; 0 for None."""
    return 0 if group is None else group.rank()


def _all_reduce(x: Tensor, group: ProcessGroup) -> Tensor:
    summed = x.clone(memory_format=torch.contiguous_format)
    torch.distributed.all_reduce(summed, group=group)
    return summed


def _all_gather(x: Tensor, group: ProcessGroup) -> Tensor:
    gathered = x.new_empty((group.size() * x.shape[0], *x.shape[1:]))
    torch.distributed.all_gather_into_tensor(gathered, x.contiguous(), group=group)
    return gathered


def _own_slice(x: Tensor, group: ProcessGroup) -> Tensor:
    length = x.shape[0] // group.size()
    return x.narrow(0, group.rank() * length, length).contiguous()


def _reduce_scatter(x: Tensor, group: ProcessGroup) -> Tensor:
    scattered = x.new_empty((x.shape[0] // group.size(), *x.shape[1:]))
    torch.distributed.reduce_scatter_tensor(scattered, x.contiguous(), group=group)
    return scattered


class _SumGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _all_reduce(grad, ctx.group), None


class _SumForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:
        return _all_reduce(x, group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup, sum_gradient: bool) -> Tensor:
        ctx.group, ctx.sum_gradient = group, sum_gradient
        return _all_gather(x, group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        collect = _reduce_scatter if ctx.sum_gradient else _own_slice
        return collect(grad, ctx.group), None, None


class _ReduceScatter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        return _reduce_scatter(x, group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _all_gather(grad, ctx.group), None


class _AllToAll(torch.autograd.Function):
    """Exchanges equal pieces of dimension 0; its own transpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        exchanged = torch.empty_like(x, memory_format=torch.contiguous_format)
        torch.distributed.all_to_all_single(exchanged, x.contiguous(), group=group)
        return exchanged

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        exchanged = torch.empty_like(grad, memory_format=torch.contiguous_format)
        torch.distributed.all_to_all_single(exchanged, grad.contiguous(), group=ctx.group)
        return exchanged, None


def sum_gradient(x: Tensor, group: ProcessGroup | None) -> Tensor:
    """Returns ``x``; backward, sums the gradient over ``group``.

    For a value that every rank holds and of which every rank uses a part.
    """
    return x if group_size(group) == 1 else _SumGradient.apply(x, group)


def sum_forward(x: Tensor, group: ProcessGroup | None) -> Tensor:
    """Sums ``x`` over ``group``; backward, hands every rank the gradient of the sum."""
    return x if group_size(group) == 1 else _SumForward.apply(x, group)


def gather_tokens(x_S: Tensor, group: ProcessGroup | None) -> Tensor:
    """Concatenates the ranks' equal pieces of dimension 0; backward, keeps the own slice of the gradient.

    For a result from which every rank computes the same thing (the same loss): the gradients are equal, one is enough.
    """
    return x_S if group_size(group) == 1 else _Gather.apply(x_S, group, False)


def gather_tokens_for_split_use(x_S: Tensor, group: ProcessGroup | None) -> Tensor:
    """Concatenates the ranks' equal pieces of dimension 0; backward, keeps the own slice of the summed gradient.

    For a result of which every rank uses all, each for its own work (keys and values in attention).
    """
    return x_S if group_size(group) == 1 else _Gather.apply(x_S, group, True)


def reduce_scatter_tokens(x_S: Tensor, group: ProcessGroup | None) -> Tensor:
    """Sums ``x`` over ``group`` and keeps the own piece of dimension 0; backward, gathers the pieces' gradients."""
    return x_S if group_size(group) == 1 else _ReduceScatter.apply(x_S, group)


def exchange(x: Tensor, group: ProcessGroup | None) -> Tensor:
    """All-to-all over dimension 0, whose size is a multiple of the group size: piece i goes to rank i."""
    return x if group_size(group) == 1 else _AllToAll.apply(x, group)

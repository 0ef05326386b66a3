"""The gated activation silu(a) * b."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class _SwiGLU(torch.autograd.Function):
    """Keeps its input only; silu(a) is made again in backward."""

    @staticmethod
    def forward(ctx: Any, ab: Tensor) -> Tensor:
        ctx.save_for_backward(ab)
        return _product(ab)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (ab,) = ctx.saved_tensors
        a, b = ab.chunk(2, dim=-1)
        grad_ab = torch.empty_like(ab)
        grad_a, grad_b = grad_ab.chunk(2, dim=-1)
        torch.ops.aten.silu_backward.grad_input(grad * b, a, grad_input=grad_a)
        torch.ops.aten.silu.out(a, out=grad_b).mul_(grad)
        return grad_ab


def swiglu(ab: Tensor) -> Tensor:
    """silu(a) * b for the halves a, b of the last dimension: [..., 2F] -> [..., F]."""
    return _SwiGLU.apply(ab) if torch.is_grad_enabled() else _product(ab)


def _product(ab: Tensor) -> Tensor:
    a, b = ab.chunk(2, dim=-1)
    return F.silu(a).mul_(b)

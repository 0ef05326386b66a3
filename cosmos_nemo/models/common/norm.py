"""Normalisation layers."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Root-mean-square normalisation over the last dimension: x / sqrt(mean(x^2) + eps) * weight.

    Statistics and the product with the weight are float32; the result has the input's dtype
    (Transformer Engine's order of operations).
    """

    def __init__(self, size: int, *, eps: float, dtype: torch.dtype, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size, dtype=dtype, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """Normalises ``x``, shape [..., size]."""
        if not torch.is_grad_enabled():  # one kernel: what generation does for every token
            return F.rms_norm(x.float(), x.shape[-1:], self.weight.float(), self.eps).to(x.dtype)
        return _RMSNorm.apply(x, self.weight, self.eps)


class _RMSNorm(torch.autograd.Function):
    """Keeps x and one number per row; everything between is made in place, in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        r = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        r.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, r)
        return (x * r).mul_(weight).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, r = ctx.saved_tensors
        unit = x * r  # float32, as r is
        product = grad * unit
        grad_weight = product.flatten(0, -2).sum(0).to(weight.dtype) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, grad_weight, None
        mean = product.mul_(weight).mean(-1, keepdim=True)
        grad_x = (grad.float() * weight).sub_(unit.mul_(mean)).mul_(r)
        return grad_x.to(x.dtype), grad_weight, None


class _NormModulate(torch.autograd.Function):
    """LN(x) * (1 + scale) + shift; keeps x and the row statistics and recomputes LN(x) in backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
        unit, mean, rstd = torch.native_layer_norm(x, x.shape[-1:], None, None, eps)
        ctx.save_for_backward(x, mean, rstd, scale)
        ctx.eps = eps
        return torch.addcmul(shift, unit, scale + 1, out=unit)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rstd, scale = ctx.saved_tensors
        grad_shift = grad_scale = None
        if ctx.needs_input_grad[1]:
            grad_shift = grad.sum_to_size(scale.shape)
        if ctx.needs_input_grad[2]:
            unit = torch.native_layer_norm(x, x.shape[-1:], None, None, ctx.eps)[0]
            grad_scale = unit.mul_(grad).sum_to_size(scale.shape)
        mask = [True, False, False]
        grad_x = torch.ops.aten.native_layer_norm_backward(
            grad * (scale + 1), x, x.shape[-1:], mean, rstd, None, None, mask
        )[0]
        return grad_x, grad_shift, grad_scale, None


def norm_modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """LayerNorm without affine parameters, then modulation: LN(x) * (1 + scale) + shift.

    Args:
        x: shape [..., D].
        shift: same number of dimensions as ``x``, broadcasts against it.
        scale: shape of ``shift``.
        eps: added to the variance.
    """
    return _NormModulate.apply(x, shift, scale, eps)

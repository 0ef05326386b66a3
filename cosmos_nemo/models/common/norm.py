"""Normalisation layers."""

from __future__ import annotations

from typing import Any

import torch
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
        x32 = x.float()
        r = (x32.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return (x32 * r * self.weight).to(x.dtype)


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

"""From a fused projection to attention heads: split, RMSNorm, rotary embedding, as one operation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def normalised_heads(
    mixed: Tensor, weights: tuple[Tensor, ...], eps: float, cos: Tensor | None = None, sin: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Splits a fused projection and normalises (and rotates) its first parts.

    For a part with weight w: y = rotate(x r w), r = 1 / sqrt(mean(x^2) + eps), in float32, rounded once at the end.
    Kept for backward: the projection itself, r and the tables.

    Args:
        mixed: the projection, per head one vector for each of G parts, [S, B, N, G, K].
        weights: RMSNorm weights [K] of the first parts (queries, keys); the part after them (values) is passed on.
        eps: added to the mean square.
        cos: cosines of the rotation angles, float32 [S, 1 or B, K/2]; None for no rotation.
        sin: sines, same shape.

    Returns:
        G tensors [S, B, N, K]. Normalised ones lie in memory as [B, N, S, K]; the others are views of ``mixed``.
    """
    if not torch.is_grad_enabled():
        return _forward(mixed, eps, cos, sin, weights)[0]
    return _NormalisedHeads.apply(mixed, eps, cos, sin, *weights)


def _forward(
    mixed: Tensor, eps: float, cos: Tensor | None, sin: Tensor | None, weights: tuple[Tensor, ...]
) -> tuple[tuple[Tensor, ...], Tensor]:
    """The result of `normalised_heads`, and r."""
    x, weight = _planes(mixed, len(weights)), torch.stack(weights)[:, None, None, None]
    r = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    y = x.mul_(r).mul_(weight)
    if cos is not None and sin is not None:
        y = _rotate(y, cos, sin)
    y = y.to(mixed.dtype).permute(0, 3, 1, 2, 4)  # [P, B, N, S, K] -> [P, S, B, N, K]
    return (*y.unbind(0), *mixed[..., len(weights) :, :].unbind(-2)), r


class _NormalisedHeads(torch.autograd.Function):
    """Works on [P, B, N, S, K]: there the tables broadcast over whole (S, K) planes, and attention reads planes too."""

    @staticmethod
    def forward(
        ctx: Any, mixed: Tensor, eps: float, cos: Tensor | None, sin: Tensor | None, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        heads, r = _forward(mixed, eps, cos, sin, weights)
        ctx.save_for_backward(mixed, r, cos, sin, *weights)
        return heads

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        mixed, r, cos, sin, *weights = ctx.saved_tensors
        parts, weight = len(weights), torch.stack(weights)[:, None, None, None]
        grad_mixed = torch.empty_like(mixed, memory_format=torch.contiguous_format)
        for part, grad in enumerate(grads[parts:], start=parts):
            grad_mixed[..., part, :] = grad
        unit = _planes(mixed, parts).mul_(r)
        grad = torch.empty_like(unit)
        for part in range(parts):
            grad[part] = grads[part].permute(1, 2, 0, 3)  # [S, B, N, K] -> [B, N, S, K]
        if cos is not None:
            grad = _rotate(grad, cos, -sin)
        product = grad * unit
        grad_weights = [g.to(w.dtype) for g, w in zip(product.sum((1, 2, 3)), weights, strict=True)]
        mean = product.mul_(weight).mean(-1, keepdim=True)
        grad_x = grad.mul_(weight).sub_(unit.mul_(mean)).mul_(r)
        grad_mixed[..., :parts, :] = grad_x.permute(3, 1, 2, 0, 4)
        return grad_mixed, None, None, None, *grad_weights


def _planes(mixed: Tensor, parts: int) -> Tensor:
    """The first parts of a projection as a float32 copy: [S, B, N, G, K] -> [parts, B, N, S, K]."""
    S, B, N, _, K = mixed.shape
    planes = torch.empty((parts, B, N, S, K), dtype=torch.float32, device=mixed.device)
    return planes.copy_(mixed[..., :parts, :].permute(3, 1, 2, 0, 4))


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates: x cos + [-second half, first half] sin, for x [..., B, N, S, K] and tables [S, 1 or B, K/2]."""
    cos, sin = (table.transpose(0, 1).unsqueeze(1) for table in (cos, sin))  # [1 or B, 1, S, K/2]
    first, second = x.chunk(2, dim=-1)
    rotated = torch.empty_like(x)
    out_first, out_second = rotated.chunk(2, dim=-1)
    torch.mul(first, cos, out=out_first).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=out_second).addcmul_(first, sin)
    return rotated

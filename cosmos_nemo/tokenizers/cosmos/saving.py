"""Two layers whose backward pass keeps less than autograd would: a quarter of a residual block's activations.

Both compute what the plain operations do. They are not for tracing, which records plain operations only.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

Rows = Tensor  # [frames * pixels, channels]


class NormSwish(torch.autograd.Function):
    """swish(norm(x)) over frames. Keeps x, which the shortcut keeps anyway, and makes norm(x) again in backward."""

    @staticmethod
    def forward(ctx: Any, frames_N_C_H_W: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        """Normalise each frame over all its elements, scale and shift channels, then x * sigmoid(x)."""
        y, mean, rstd = _norm(frames_N_C_H_W, weight, bias, eps)
        ctx.save_for_backward(frames_N_C_H_W, weight, bias, mean, rstd)
        ctx.eps = eps
        return F.silu(y, inplace=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_N_C_H_W: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradients of frames, weight and bias."""
        x, weight, bias, mean, rstd = ctx.saved_tensors
        y, _, _ = _norm(x, weight, bias, ctx.eps)
        grad = torch.ops.aten.silu_backward(grad_N_C_H_W, y)
        del y
        N, C, H, W = x.shape
        grads = torch.ops.aten.native_group_norm_backward(
            _dense(grad), _dense(x), mean, rstd, weight, N, C, H * W, 1, list(ctx.needs_input_grad[:3])
        )
        return (*grads, None)


def _norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised frames, and the mean and inverse deviation of each."""
    N, C, H, W = x.shape
    y, mean, rstd = torch.native_group_norm(_dense(x), weight, bias, N, C, H * W, 1, eps)
    return y, mean, rstd


def _dense(x: Tensor) -> Tensor:
    """What the kernels of this device take: channels last on a CPU, first elsewhere."""
    return x.contiguous(memory_format=torch.channels_last if x.device.type == "cpu" else torch.contiguous_format)


class CausalTimeConv(torch.autograd.Function):
    """3x1x1 over the present and the two moments before, which are the first frame again before a video's start.

    Keeps x and not the copy of it that begins with the first frame three times.
    """

    @staticmethod
    def forward(ctx: Any, x_T_B_H_W_C: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Convolve.

        Args:
            ctx: autograd's.
            x_T_B_H_W_C: contiguous.
            weight: [out, in, 3].
            bias: [out].

        Returns: y_T_B_H_W_C.
        """
        ctx.save_for_backward(x_T_B_H_W_C, weight)
        if x_T_B_H_W_C.dtype != torch.float32:
            y = F.conv2d(_image(_repeat_first(x_T_B_H_W_C)), weight[..., None], bias)
            return y[0].permute(1, 2, 0).unflatten(1, x_T_B_H_W_C.shape[1:4])
        x, n = x_T_B_H_W_C.flatten(0, 3), x_T_B_H_W_C[0].numel() // x_T_B_H_W_C.shape[4]
        w0, w1, w2 = (weight[:, :, k].T for k in range(3))
        y = torch.addmm(bias, x, w2)
        y[n:].addmm_(x[:-n], w1)
        y[2 * n :].addmm_(x[: -2 * n], w0)
        first = x[:n]
        y[:n].addmm_(first, w0 + w1)
        y[n : 2 * n].addmm_(first[: len(y) - n], w0)  # nothing, where there is one frame only
        return y.unflatten(0, x_T_B_H_W_C.shape[:4])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_T_B_H_W_C: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradients of x, weight and bias."""
        x_T_B_H_W_C, weight = ctx.saved_tensors
        grad_T_B_H_W_C = grad_T_B_H_W_C.contiguous()
        if x_T_B_H_W_C.dtype != torch.float32:
            return _convolution_backward(x_T_B_H_W_C, weight, grad_T_B_H_W_C)
        x, n = x_T_B_H_W_C.flatten(0, 3), x_T_B_H_W_C[0].numel() // x_T_B_H_W_C.shape[4]
        grad = grad_T_B_H_W_C.flatten(0, 3)
        w0, w1, w2 = (weight[:, :, k] for k in range(3))
        first = x[:n]
        grad_start, grad_second = grad[:n], grad[n : 2 * n]
        grad_x = grad @ w2
        grad_x[:-n].addmm_(grad[n:], w1)
        grad_x[: -2 * n].addmm_(grad[2 * n :], w0)
        grad_x[:n].addmm_(grad_start, w0 + w1)
        grad_x[: len(grad_second)].addmm_(grad_second, w0)
        by_first = grad_start.T @ first
        g0 = by_first + grad_second.T @ first[: len(grad_second)]
        g0.addmm_(grad[2 * n :].T, x[: -2 * n])
        g1 = by_first.addmm_(grad[n:].T, x[:-n])
        grad_weight = torch.stack([g0, g1, grad.T @ x], dim=2)
        return grad_x.unflatten(0, x_T_B_H_W_C.shape[:4]), grad_weight, grad.sum(dim=0)


def _convolution_backward(x_T_B_H_W_C: Tensor, weight: Tensor, grad_T_B_H_W_C: Tensor) -> tuple[Tensor, ...]:
    """The gradients of one convolution over the repeated first frame."""
    image = _image(_repeat_first(x_T_B_H_W_C))
    grad_image, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
        _image(grad_T_B_H_W_C), image, weight[..., None], [weight.shape[0]], (1, 1), (0, 0), (1, 1), False, (0, 0), 1,
        (True, True, True),
    )  # fmt: skip
    padded = grad_image[0].permute(1, 2, 0).unflatten(1, x_T_B_H_W_C.shape[1:4])
    grad_x = padded[2:].clone()
    grad_x[0] += padded[:2].sum(dim=0)
    return grad_x, grad_weight[..., 0], grad_bias


def _repeat_first(x_T_B_H_W_C: Tensor) -> Tensor:
    """Put the first frame twice before a video."""
    return torch.cat([x_T_B_H_W_C[:1], x_T_B_H_W_C[:1], x_T_B_H_W_C])


def _image(x_T_B_H_W_C: Tensor) -> Tensor:
    """Time as the height of an image and everything else as its width, [1, C, T, B * H * W]; a view."""
    return x_T_B_H_W_C.flatten(1, 3).permute(2, 0, 1)[None]

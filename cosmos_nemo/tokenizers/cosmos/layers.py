"""Layers of the Cosmos tokenizers, causal in time.

Activations are x_T_B_C_H_W with the channels last in memory (strides of [T, B, H, W, C]). So a frame is a plain image
to convolutions and norms, a moment is a contiguous slice, and convolutions along time see an image whose height is
time, all without copying.

Every layer that looks back in time takes a `Memory`. Without one a call sees a whole clip. With one, a long clip can be
fed piece by piece and the results are those of the whole.

Source: cosmos-predict1, `cosmos_predict1/tokenizer/modules/layers3d.py`.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cosmos_nemo.tokenizers.cosmos.saving import CausalTimeConv, NormSwish

Memory = dict[nn.Module, tuple[Tensor, ...]]
"""What each layer needs of the moments before; empty at the start of a video."""


def frames(x_T_B_C_H_W: Tensor) -> Tensor:
    """All frames as a batch of images, [T * B, C, H, W]; a view."""
    return x_T_B_C_H_W.flatten(0, 1)


def _keeps_activations() -> bool:
    """Whether a backward pass is to come, for which layers should keep little."""
    return torch.is_grad_enabled() and not torch.jit.is_tracing()


class Conv(nn.Module):
    """A convolution whose weights have the published shape [out, in, k_t, k_h, k_w]."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: tuple[int, int, int]) -> None:
        """Make it with torch's initial weights.

        Args:
            in_channels: C of the input.
            out_channels: C of the output.
            kernel_size: (t, h, w).
        """
        super().__init__()
        self.conv3d = nn.Conv3d(in_channels, out_channels, kernel_size)


class PointConv(Conv):
    """1x1x1: a linear layer over channels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """See `Conv`."""
        super().__init__(in_channels, out_channels, (1, 1, 1))

    def forward(self, x_T_B_C_H_W: Tensor) -> Tensor:
        """Mix channels."""
        return self.rows(x_T_B_C_H_W.permute(0, 1, 3, 4, 2)).permute(0, 1, 4, 2, 3)

    def rows(self, x_X_C: Tensor) -> Tensor:
        """The same with the channels as the last axis."""
        return F.linear(x_X_C, self.conv3d.weight.flatten(1), self.conv3d.bias)


class SpaceConv(Conv):
    """1x3x3 in every frame."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """See `Conv`."""
        super().__init__(in_channels, out_channels, (1, 3, 3))

    def forward(self, x_T_B_C_H_W: Tensor, *, stride: int = 1, padding: int = 1) -> Tensor:
        """Convolve; the border is zero."""
        y = F.conv2d(
            frames(x_T_B_C_H_W), self.conv3d.weight.squeeze(2), self.conv3d.bias, stride=stride, padding=padding
        )
        return y.unflatten(0, x_T_B_C_H_W.shape[:2] if stride == 1 else (-1, x_T_B_C_H_W.shape[1]))


class TimeConv(Conv):
    """3x1x1 over the present and the two moments before; before a video's first frame stands that frame again."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """See `Conv`."""
        super().__init__(in_channels, out_channels, (3, 1, 1))

    def forward(self, x_T_B_C_H_W: Tensor, memory: Memory | None = None) -> Tensor:
        """Convolve."""
        x = x_T_B_C_H_W
        if memory is None and _keeps_activations():
            rows = x.permute(0, 1, 3, 4, 2).contiguous()
            y = CausalTimeConv.apply(rows, self.conv3d.weight.flatten(2), self.conv3d.bias)
            return y.permute(0, 1, 4, 2, 3)
        if memory is not None and self in memory:
            x = torch.cat([*memory[self], x])
        else:
            x = torch.cat([x[:1], x[:1], x])
        if memory is not None:
            memory[self] = (x[-2:].clone(),)
        return self.windows(x)

    def windows(self, x_T_B_C_H_W: Tensor, *, stride: int = 1) -> Tensor:
        """Convolve without looking beyond the given moments: T -> ceil((T - 2) / stride)."""
        x = x_T_B_C_H_W.permute(0, 1, 3, 4, 2)  # [T, B, H, W, C], contiguous
        image = x.flatten(1, 3).permute(2, 0, 1)[None]  # [1, C, T, B * H * W]
        y = F.conv2d(image, self.conv3d.weight.flatten(3), self.conv3d.bias, stride=(stride, 1))
        return y[0].permute(1, 2, 0).unflatten(1, x.shape[1:4]).permute(0, 1, 4, 2, 3)


class FactorizedConv(nn.Sequential):
    """1x3x3, then 3x1x1."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """See `Conv`."""
        super().__init__(SpaceConv(in_channels, out_channels), TimeConv(out_channels, out_channels))

    def forward(self, x_T_B_C_H_W: Tensor, memory: Memory | None = None) -> Tensor:
        """Convolve in space, then in time."""
        space, time = self
        return time(space(x_T_B_C_H_W), memory)


class FrameNorm(nn.Module):
    """Normalises each frame over all its pixels and channels, then scales and shifts channels."""

    def __init__(self, channels: int) -> None:
        """Make it the identity scale."""
        super().__init__()
        self.norm = nn.GroupNorm(1, channels, eps=1e-6)

    def forward(self, x_T_B_C_H_W: Tensor) -> Tensor:
        """Normalise."""
        return self.norm(frames(x_T_B_C_H_W)).unflatten(0, x_T_B_C_H_W.shape[:2])

    def swish(self, x_T_B_C_H_W: Tensor) -> Tensor:
        """Normalise, then x * sigmoid(x)."""
        if _keeps_activations():
            norm = self.norm
            y = NormSwish.apply(frames(x_T_B_C_H_W), norm.weight, norm.bias, norm.eps)
            return y.unflatten(0, x_T_B_C_H_W.shape[:2])
        return F.silu(self(x_T_B_C_H_W), inplace=not torch.is_grad_enabled())


class ResBlock(nn.Module):
    """Two normalised convolutions beside a shortcut."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """See `Conv`."""
        super().__init__()
        self.norm1 = FrameNorm(in_channels)
        self.conv1 = FactorizedConv(in_channels, out_channels)
        self.norm2 = FrameNorm(out_channels)
        self.conv2 = FactorizedConv(out_channels, out_channels)
        self.nin_shortcut = PointConv(in_channels, out_channels) if in_channels != out_channels else nn.Identity()

    def forward(self, x_T_B_C_H_W: Tensor, memory: Memory | None = None) -> Tensor:
        """Add the branch to the shortcut."""
        h = self.conv1(self.norm1.swish(x_T_B_C_H_W), memory)
        h = self.conv2(self.norm2.swish(h), memory)
        shortcut: Tensor = self.nin_shortcut(x_T_B_C_H_W)
        return shortcut + h


class _Attention(nn.Module):
    """Single-head attention with a norm before and a shortcut around it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = FrameNorm(channels)
        self.q = PointConv(channels, channels)
        self.k = PointConv(channels, channels)
        self.v = PointConv(channels, channels)
        self.proj_out = PointConv(channels, channels)

    def _qkv(self, x_T_B_C_H_W: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, [T, B, H, W, C] each."""
        h = self.norm(x_T_B_C_H_W).permute(0, 1, 3, 4, 2)
        return self.q.rows(h), self.k.rows(h), self.v.rows(h)


class SpaceAttention(_Attention):
    """Every pixel attends to all pixels of its frame."""

    def forward(self, x_T_B_C_H_W: Tensor, memory: Memory | None = None) -> Tensor:
        """Attend; time plays no part, so the memory is not used."""
        q, k, v = (t.flatten(2, 3) for t in self._qkv(x_T_B_C_H_W))  # [T, B, H * W, C]
        h = F.scaled_dot_product_attention(q, k, v).unflatten(2, x_T_B_C_H_W.shape[3:])
        return x_T_B_C_H_W + self.proj_out.rows(h).permute(0, 1, 4, 2, 3)


class TimeAttention(_Attention):
    """Every pixel attends to itself in the present and all moments before."""

    def forward(self, x_T_B_C_H_W: Tensor, memory: Memory | None = None) -> Tensor:
        """Attend, causally."""
        q, k, v = (t.permute(1, 2, 3, 0, 4).flatten(0, 2) for t in self._qkv(x_T_B_C_H_W))  # [B * H * W, T, C]
        mask = None
        if memory is not None:
            if self in memory:
                k, v = (torch.cat(pair, dim=1) for pair in zip(memory[self], (k, v), strict=True))
                mask = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool, device=q.device)
                mask = mask.tril(k.shape[1] - q.shape[1])
            memory[self] = (k, v)
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        _, batch, _, height, width = x_T_B_C_H_W.shape
        h = h.unflatten(0, (batch, height, width)).permute(3, 0, 1, 2, 4)  # [B * H * W, T, C] -> [T, B, H, W, C]
        return x_T_B_C_H_W + self.proj_out.rows(h).permute(0, 1, 4, 2, 3)


class AttentionPair(nn.Sequential):
    """Attention in space, then in time."""

    def __init__(self, channels: int) -> None:
        """See `Conv`."""
        super().__init__(SpaceAttention(channels), TimeAttention(channels))

    def forward(self, x_T_B_C_H_W: Tensor, memory: Memory | None = None) -> Tensor:
        """Attend in space, then in time."""
        space, time = self
        return time(space(x_T_B_C_H_W, memory), memory)


class Downsample(nn.Module):
    """Halves space, then time: a strided convolution plus a mean each, then a mix of channels.

    Holds only the convolutions it uses, as the published files do.
    """

    def __init__(self, channels: int, *, space: bool, time: bool) -> None:
        """Make it.

        Args:
            channels: C.
            space: whether height and width are halved.
            time: whether time is halved: T = 2 k + 1 at the start of a video becomes k + 1, T = 2 k later k.
        """
        super().__init__()
        self.space, self.time = space, time
        if space:
            self.conv1 = SpaceConv(channels, channels)
        if time:
            self.conv2 = TimeConv(channels, channels)
        if space or time:
            self.conv3 = PointConv(channels, channels)

    def forward(self, x_T_B_C_H_W: Tensor, memory: Memory | None = None) -> Tensor:
        """Downsample."""
        x = x_T_B_C_H_W
        if self.space:
            mean = F.avg_pool2d(frames(x), 2).unflatten(0, (-1, x.shape[1]))
            x = self.conv1(F.pad(x, (0, 1, 0, 1)), stride=2, padding=0) + mean
        if self.time:
            if memory is not None and self in memory:
                (before,) = memory[self]
            else:
                before, x = x[:1], torch.cat([x[:1], x])
            if memory is not None:
                memory[self] = (x[-1:].clone(),)
            x = self.conv2.windows(torch.cat([before, x]), stride=2) + (x[::2] + x[1::2]) / 2
        return self.conv3(x) if self.space or self.time else x


class Upsample(nn.Module):
    """Doubles time, then space: repetition plus a convolution of it each, then a mix of channels.

    Holds only the convolutions it uses, as the published files do.
    """

    def __init__(self, channels: int, *, space: bool, time: bool) -> None:
        """Make it.

        Args:
            channels: C.
            space: whether height and width are doubled.
            time: whether time is doubled: T at the start of a video becomes 2 T - 1 (the first frame stands alone),
                later 2 T.
        """
        super().__init__()
        self.space, self.time = space, time
        if time:
            self.conv1 = TimeConv(channels, channels)
        if space:
            self.conv2 = SpaceConv(channels, channels)
        if space or time:
            self.conv3 = PointConv(channels, channels)

    def forward(self, x_T_B_C_H_W: Tensor, memory: Memory | None = None) -> Tensor:
        """Upsample."""
        x = x_T_B_C_H_W
        if self.time:
            is_start = memory is None or self.conv1 not in memory
            x = x.repeat_interleave(2, dim=0)
            x = x[1:] if is_start else x
            x = self.conv1(x, memory) + x
        if self.space:
            shape = x.shape[:2]
            x = F.interpolate(frames(x), scale_factor=2.0, mode="nearest").unflatten(0, shape)
            x = self.conv2(x) + x
        return self.conv3(x) if self.space or self.time else x


class Level(nn.Module):
    """Blocks of one resolution, each with attention or none, and what leads to the next level."""

    def __init__(self, widths: list[int], *, attention: bool) -> None:
        """Make blocks.

        Args:
            widths: channels before, between and after the blocks.
            attention: whether each block is followed by an attention pair.
        """
        super().__init__()
        self.block = nn.ModuleList(ResBlock(*pair) for pair in pairwise(widths))
        self.attn = nn.ModuleList(AttentionPair(width) for width in widths[1:] if attention)
        self.downsample: Downsample | None = None
        self.upsample: Upsample | None = None

    def stages(self) -> list[nn.Module]:
        """Blocks, attention and resampler in the order of their use."""
        attention = self.attn or [None] * len(self.block)
        stages = [stage for pair in zip(self.block, attention, strict=True) for stage in pair]
        return [stage for stage in [*stages, self.downsample, self.upsample] if stage is not None]


class Middle(nn.Module):
    """Block, attention, block at the lowest resolution."""

    def __init__(self, channels: int) -> None:
        """See `Conv`."""
        super().__init__()
        self.block_1 = ResBlock(channels, channels)
        self.attn_1 = AttentionPair(channels)
        self.block_2 = ResBlock(channels, channels)

    def stages(self) -> list[nn.Module]:
        """The three in the order of their use."""
        return [self.block_1, self.attn_1, self.block_2]


def run_stages(stages: list[nn.Module], x: Tensor, memory: Memory | None, *, recompute: bool) -> Tensor:
    """Apply stages one after the other.

    Args:
        stages: blocks, attention pairs, resamplers.
        x: x_T_B_C_H_W.
        memory: see the module's docstring.
        recompute: keep only the stages' inputs for backward and compute the rest again.
    """
    for stage in stages:
        if recompute and torch.is_grad_enabled():
            assert memory is None
            x = checkpoint(stage, x, use_reentrant=False)
        else:
            x = stage(x, memory)
    return x

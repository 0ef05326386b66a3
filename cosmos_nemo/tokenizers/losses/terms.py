"""The terms of the tokenizers' loss, as functions of tensors. None is weighted; `video_loss` does that.

Source: cosmos-predict1, `cosmos_predict1/tokenizer/training/losses/continuous.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

FlowNet = Callable[[Tensor, Tensor], Tensor]
"""(frames_N_3_H_W, the frames they move to) -> flow_N_2_H_W in pixels."""

LAYER_WEIGHTS = (1 / 2.6, 1 / 4.8, 1 / 3.7, 1 / 5.6, 10 / 1.5)
"""a_k of the five VGG stages."""


def frames_of(video_B_C_T_H_W: Tensor) -> Tensor:
    """All frames as a batch, [B * T, C, H, W]."""
    return video_B_C_T_H_W.transpose(1, 2).flatten(0, 1)


def color_distance(video_B_3_T_H_W: Tensor, reconstruction_B_3_T_H_W: Tensor) -> Tensor:
    """Mean |x - y|, a float32 scalar."""
    return (video_B_3_T_H_W.float() - reconstruction_B_3_T_H_W.float()).abs().mean()


def squared_distance(video_B_3_T_H_W: Tensor, reconstruction_B_3_T_H_W: Tensor) -> Tensor:
    """Mean (x - y)^2, a float32 scalar; not upstream's. From random weights a network learns faster with it."""
    return (video_B_3_T_H_W.float() - reconstruction_B_3_T_H_W.float()).square().mean()


def perceptual_distance(features: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """Sum_k a_k mean |F_k(x) - F_k(y)| of every frame.

    Raw features and their absolute difference: neither the normalisation over channels nor the learned weights of
    LPIPS, whose name this term has elsewhere.

    Args:
        features: of the frames, [N, C_k, H_k, W_k] each; see `VGG16Features`.
        other: of other frames.

    Returns: distance_N, float32.
    """
    distances = [
        weight * (one - two).abs().float().mean(dim=(1, 2, 3))
        for weight, one, two in zip(LAYER_WEIGHTS, features, other, strict=True)
    ]
    return torch.stack(distances).sum(dim=0)


def gram_matrices(features: Sequence[Tensor]) -> list[Tensor]:
    """F_k F_k^T / (h w) of every frame: how channels go together, wherever in the frame.

    Args:
        features: [N, C_k, H_k, W_k] each.

    Returns: [N, C_k, C_k] each, float32. The mean over a clip's frames is the Gram matrix of the clip.
    """
    rows = [feature.float().flatten(2) for feature in features]
    return [row @ row.transpose(1, 2) / row.shape[2] for row in rows]


def gram_distance(grams: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """Sum_k a_k mean (G_k - G'_k)^2 of every clip.

    Args:
        grams: of the clips, [B, C_k, C_k] each.
        other: of other clips.

    Returns: distance_B, float32.
    """
    distances = [
        weight * (one - two).square().mean(dim=(1, 2))
        for weight, one, two in zip(LAYER_WEIGHTS, grams, other, strict=True)
    ]
    return torch.stack(distances).sum(dim=0)


def two_way_flow(flow_net: FlowNet, video_B_3_T_H_W: Tensor, *, scale: int = 2) -> Tensor:
    """Optical flow between neighbouring frames, forward and backward in time.

    Args:
        flow_net: see `FlowNet`.
        video_B_3_T_H_W: RGB in [-1, 1]; T at least 2.
        scale: frames are made smaller by this before, to save memory; the flow is brought back to full size.

    Returns: flow_B_2_T_H_W with 2 (T - 1) frames, first the forward then the backward ones, in pixels.
    """
    batch, _, _, height, width = video_B_3_T_H_W.shape
    small = F.interpolate(frames_of(video_B_3_T_H_W), (height // scale, width // scale), mode="bilinear")
    small = small.unflatten(0, (batch, -1))
    before, after = small[:, :-1].flatten(0, 1), small[:, 1:].flatten(0, 1)
    flows = [flow_net(a, b).unflatten(0, (batch, -1)) for a, b in ((before, after), (after, before))]
    flow = torch.cat(flows, dim=1).flatten(0, 1)
    flow = scale * F.interpolate(flow, (height, width), mode="bilinear")
    return flow.unflatten(0, (batch, -1)).transpose(1, 2)


def flow_distance(flow_net: FlowNet, video_B_3_T_H_W: Tensor, reconstruction_B_3_T_H_W: Tensor) -> Tensor:
    """Mean |flow(x) - flow(y)|, a float32 scalar; 0 for single frames."""
    if video_B_3_T_H_W.shape[2] < 2:
        return reconstruction_B_3_T_H_W.float().sum() * 0
    with torch.no_grad():
        target = two_way_flow(flow_net, video_B_3_T_H_W)
    return (target - two_way_flow(flow_net, reconstruction_B_3_T_H_W)).abs().float().mean()


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Mean of (mu^2 + sigma^2 - 1 - log sigma^2) / 2, a scalar; for a VAE, which no published tokenizer is."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()


def windows(video_B_C_T_H_W: Tensor, *, num_frames: int, step: int) -> Tensor:
    """Overlapping pieces of a clip, each to be coded alone.

    Args:
        video_B_C_T_H_W: a batch of clips, T >= num_frames.
        num_frames: of a window.
        step: frames from one window to the next.

    Returns: [B * windows, C, num_frames, H, W], the windows of a clip next to each other.
    """
    cut = video_B_C_T_H_W.unfold(2, num_frames, step)  # [B, C, windows, H, W, num_frames]
    return cut.permute(0, 2, 1, 5, 3, 4).flatten(0, 1)


def join_windows(windows_X_C_T_H_W: Tensor, *, num_windows: int, step: int) -> Tensor:
    """The inverse of `windows`: where windows overlap, their mean.

    Args:
        windows_X_C_T_H_W: what `windows` returns, or its reconstruction.
        num_windows: per clip.
        step: frames from one window to the next.

    Returns: video_B_C_T_H_W.
    """
    parts = windows_X_C_T_H_W.unflatten(0, (-1, num_windows)).unbind(1)
    num_frames = parts[0].shape[2]
    shape = list(parts[0].shape)
    shape[2] = num_frames + (num_windows - 1) * step
    total, count = parts[0].new_zeros(shape), parts[0].new_zeros(shape[2])
    for index, part in enumerate(parts):
        place = slice(index * step, index * step + num_frames)
        total[:, :, place] += part
        count[place] += 1
    return total / count[:, None, None]


def consistency_distance(windows_X_C_T_H_W: Tensor, *, num_windows: int, step: int) -> Tensor:
    """Mean |difference| of the frames that neighbouring windows of a clip share, a float32 scalar.

    Args:
        windows_X_C_T_H_W: reconstructions of what `windows` returns.
        num_windows: per clip, at least 2.
        step: frames from one window to the next.
    """
    by_clip = windows_X_C_T_H_W.float().unflatten(0, (-1, num_windows))
    return (by_clip[:, :-1, :, step:] - by_clip[:, 1:, :, :-step]).abs().mean()

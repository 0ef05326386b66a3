"""The loss of a tokenizer's training: weighted terms by iteration."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.losses import terms
from cosmos_nemo.tokenizers.losses.flow import load_raft
from cosmos_nemo.tokenizers.losses.terms import FlowNet
from cosmos_nemo.tokenizers.losses.vgg import VGG16Features, load_vgg16

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Schedule:
    """A weight that changes at given iterations."""

    boundaries: tuple[int, ...] = ()
    """Iterations at which the next value takes over."""
    values: tuple[float, ...] = (1.0,)
    """One more than boundaries."""

    def __post_init__(self) -> None:
        self.boundaries, self.values = tuple(self.boundaries), tuple(self.values)
        if len(self.values) != len(self.boundaries) + 1 or list(self.boundaries) != sorted(self.boundaries):
            raise UserError(
                f"a schedule needs rising boundaries and one value more than those, not {self.boundaries} and "
                f"{self.values}"
            )

    def weight(self, iteration: int) -> float:
        """The value whose boundary is the first above the iteration, else the last."""
        for boundary, value in zip(self.boundaries, self.values, strict=False):
            if iteration < boundary:
                return value
        return self.values[-1]

    @property
    def is_off(self) -> bool:
        """Whether it is 0 for ever."""
        return not any(self.values)


@dataclass(kw_only=True)
class VideoLossConfig:
    """Weights of the terms; defaults are those of NVIDIA's NeMo recipe."""

    color: Schedule = field(default_factory=Schedule)
    """Mean absolute difference of pixels."""
    squared: Schedule = field(default_factory=lambda: Schedule(values=(0.0,)))
    """Mean squared difference of pixels, for networks that start from random weights; upstream has no such term."""
    perceptual: Schedule = field(default_factory=lambda: Schedule(boundaries=(500_000,), values=(0.1, 0.073)))
    """Mean absolute difference of VGG16 features; needs `vgg_path`."""
    gram: Schedule = field(default_factory=lambda: Schedule(boundaries=(500_000,), values=(0.0, 0.062)))
    """Difference of Gram matrices of the same features."""
    flow: Schedule = field(default_factory=lambda: Schedule(boundaries=(250_000,), values=(0.0, 0.01)))
    """Difference of optical flow; needs `flow_path` and torchvision, from the iteration on where it is not 0."""
    vgg_path: str | None = None
    """torchvision's vgg16-397923af.pth; without it the perceptual and Gram terms are off, which is said once."""
    flow_path: str | None = None
    """torchvision's raft_large_C_T_SKHT_V2-ff5fadd5.pth."""
    frames_at_once: int = 16
    """Frames whose VGG features are kept at once; features are computed again for backward. 0 keeps all."""

    @classmethod
    def predict1(cls) -> VideoLossConfig:
        """The weights of cosmos-predict1's experiments: pixels and features only."""
        off = {"gram": Schedule(values=(0.0,)), "flow": Schedule(values=(0.0,))}
        return cls(perceptual=Schedule(values=(0.1,)), **off)


class VideoLoss:
    """Sums the terms of a config. It holds frozen networks, and none of them is part of the model."""

    def __init__(
        self, config: VideoLossConfig, *, vgg: VGG16Features | None = None, flow_net: FlowNet | None = None
    ) -> None:
        """Make it; `load_video_loss` reads the networks from the config's files.

        Args:
            config: weights.
            vgg: without it the perceptual and the Gram term are left out.
            flow_net: without it the flow term is left out.
        """
        self.config, self.vgg, self.flow_net = config, vgg, flow_net

    def __call__(
        self, video_B_3_T_H_W: Tensor, reconstruction_B_3_T_H_W: Tensor, *, iteration: int
    ) -> dict[str, Tensor]:
        """Compute the terms; their sum is the loss.

        Args:
            video_B_3_T_H_W: RGB in [-1, 1].
            reconstruction_B_3_T_H_W: what the network made of it.
            iteration: of the training, for the schedules.

        Returns: weighted terms by name: `color`, and `squared`, `lpips`, `gram`, `flow` where they are not off; float32
            scalars.
        """
        config, pair = self.config, (video_B_3_T_H_W, reconstruction_B_3_T_H_W)
        result = {"color": config.color.weight(iteration) * terms.color_distance(*pair)}
        squared = config.squared.weight(iteration)
        if squared:
            result["squared"] = squared * terms.squared_distance(*pair)
        perceptual, gram = config.perceptual.weight(iteration), config.gram.weight(iteration)
        if self.vgg is not None and (perceptual or gram):
            by_frame, grams = self._features(*pair, with_gram=gram > 0)
            result["lpips"] = perceptual * by_frame.mean()
            if gram:
                result["gram"] = gram * terms.gram_distance(*grams).mean()
        flow = config.flow.weight(iteration)
        if self.flow_net is not None and flow and video_B_3_T_H_W.shape[2] > 1:
            result["flow"] = flow * terms.flow_distance(self.flow_net, *pair)
        return result

    def _features(
        self, video_B_3_T_H_W: Tensor, reconstruction_B_3_T_H_W: Tensor, *, with_gram: bool
    ) -> tuple[Tensor, tuple[list[Tensor], list[Tensor]]]:
        """Perceptual distance of every frame, and Gram matrices of every clip, [B, C, C] per stage, of both videos."""
        assert self.vgg is not None
        batch = video_B_3_T_H_W.shape[0]
        dtype = next(self.vgg.parameters()).dtype
        pair = [terms.frames_of(v).to(dtype) for v in (video_B_3_T_H_W, reconstruction_B_3_T_H_W)]
        size = self.config.frames_at_once or len(pair[0])
        parts = []
        for frames in zip(*(frames.split(size) for frames in pair), strict=True):
            if self.config.frames_at_once and torch.is_grad_enabled():
                parts.append(checkpoint(self._part, *frames, with_gram, use_reentrant=False))
            else:
                parts.append(self._part(*frames, with_gram))
        by_frame = torch.cat([part[0] for part in parts])
        # A clip's Gram matrix is the mean of those of its frames.
        grams = tuple(
            [
                torch.cat([part[which][stage] for part in parts]).unflatten(0, (batch, -1)).mean(dim=1)
                for stage in range(len(parts[0][which]))
            ]
            for which in (1, 2)
        )
        return by_frame, (grams[0], grams[1])

    def _part(
        self, frames_N_3_H_W: Tensor, other_N_3_H_W: Tensor, with_gram: bool
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Perceptual distance of some frames, and their Gram matrices if asked for."""
        assert self.vgg is not None
        features, other = self.vgg(frames_N_3_H_W), self.vgg(other_N_3_H_W)
        distance = terms.perceptual_distance(features, other)
        return (
            (distance, terms.gram_matrices(features), terms.gram_matrices(other)) if with_gram else (distance, [], [])
        )


def load_video_loss(
    config: VideoLossConfig, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> VideoLoss:
    """Make a loss with the networks that its config names; says what is off for want of a file.

    Args:
        config: weights and files.
        device: where to put the networks.
        dtype: of their weights.

    Raises:
        UserError: a named file is not there or not what it should be, or torchvision is needed and does not import.
    """
    vgg = flow_net = None
    if config.vgg_path:
        vgg = load_vgg16(config.vgg_path, device=device, dtype=dtype)
    elif not (config.perceptual.is_off and config.gram.is_off):
        logger.warning(
            "the perceptual loss is off, because no VGG16 weights are named: pixels alone give blurred "
            "reconstructions; set model.loss.vgg_path=.../vgg16-397923af.pth"
        )
    if config.flow_path and not config.flow.is_off:
        flow_net = load_raft(config.flow_path, device=device, dtype=dtype)
    elif not config.flow.is_off:
        start = next((b for b, v in zip(config.flow.boundaries, config.flow.values[1:], strict=True) if v), 0)
        logger.info(
            "the flow loss, due from iteration %d, is off: no RAFT weights are named (model.loss.flow_path)", start
        )
    return VideoLoss(config, vgg=vgg, flow_net=flow_net)

"""Clips: decoding what a pass over the data takes from a video file. Everything random is keyed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cosmos_nemo.data.schema import VideoSample, sample_id
from cosmos_nemo.data.window import ClipWindow
from cosmos_nemo.media.fit import Fit
from cosmos_nemo.media.frames import read_indices
from cosmos_nemo.media.pictures import VideoError, read_image, resize
from cosmos_nemo.media.probe import probe_video
from cosmos_nemo.numerics.keyed import generator

_WHOLE: dict[str, Fit] = {"cover": "cover", "stretch": "stretch"}  # ways to show the whole picture


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A decoded clip."""

    key: str
    video_3_T_H_W: Tensor  # uint8
    fps: float
    start: int


def cut(sample: VideoSample, window: ClipWindow, *, seed: int, pass_index: int) -> Clip:
    """Decode the clip that a pass over the data takes from a file.

    Args:
        sample: the file.
        window: what is cut out.
        seed: of the run.
        pass_index: counts the passes, so that each may take another clip.

    Raises:
        VideoError: the file cannot be decoded, or is too short or too small.
    """
    draws = _Draws(seed, sample.key, pass_index)
    if sample.media_part != "mp4":
        frames_3_T_H_W, fps, start = read_image(sample.media)[:, None], 0.0, 0
        if window.num_frames > 1:
            raise VideoError(f"a picture, where clips have {window.num_frames} frames")
    else:
        probe = probe_video(sample.media)
        spare = probe.num_frames - window.span
        if spare < 0:
            stride = f" (num_frames={window.num_frames}, stride={window.stride})" if window.stride > 1 else ""
            raise VideoError(f"{probe.num_frames} frames, where a clip takes {window.span}{stride}")
        start = {"random": draws.below("time", spare + 1), "centre": spare // 2, "start": 0}[window.time]
        indices = range(start, start + window.span, window.stride)
        # Frame by frame where that gives the same: a clip of large frames does not have to be held.
        whole = window.space in _WHOLE and window.resize_short_side is None
        size = (window.height, window.width) if whole else None
        frames_3_T_H_W = read_indices(sample.media, probe, indices, size=size, fit=_WHOLE.get(window.space, "cover"))
        fps = probe.fps / window.stride
    clip_3_T_H_W = _turn_around(_fit(frames_3_T_H_W, window, draws), window, draws)
    return Clip(key=sample.key, video_3_T_H_W=clip_3_T_H_W.contiguous(), fps=fps, start=start)


class _Draws:
    """Random numbers of one clip, each by its name."""

    def __init__(self, seed: int, key: str, pass_index: int) -> None:
        self._keys = (seed, sample_id(key), pass_index)

    def below(self, name: str, limit: int) -> int:
        """A whole number in [0, limit)."""
        return int(torch.randint(limit, (), generator=generator(*self._keys, name)))

    def happens(self, name: str, probability: float) -> bool:
        """True with a probability."""
        return bool(torch.rand((), generator=generator(*self._keys, name)) < probability)


def _fit(frames_3_T_H_W: Tensor, window: ClipWindow, draws: _Draws) -> Tensor:
    size = (window.height, window.width)
    frames_T_3_H_W = frames_3_T_H_W.transpose(0, 1)
    if window.resize_short_side is not None and draws.happens("resize", window.resize_probability):
        height, width = frames_T_3_H_W.shape[-2:]
        scale = window.resize_short_side / min(height, width)
        frames_T_3_H_W = resize(frames_T_3_H_W, (round(height * scale), round(width * scale)))
    if window.space in _WHOLE:
        return resize(frames_T_3_H_W, size, fit=_WHOLE[window.space]).transpose(0, 1)
    spare = [found - wanted for found, wanted in zip(frames_T_3_H_W.shape[-2:], size, strict=True)]
    if min(spare) < 0:
        height, width = frames_T_3_H_W.shape[-2:]
        raise VideoError(f"{height}x{width} pixels, where clips of {window.height}x{window.width} are cut out")
    if window.space == "random":
        top, left = (draws.below(name, room + 1) for name, room in zip(("top", "left"), spare, strict=True))
    else:
        top, left = (room // 2 for room in spare)
    return frames_T_3_H_W[..., top : top + size[0], left : left + size[1]].transpose(0, 1)


def _turn_around(clip_3_T_H_W: Tensor, window: ClipWindow, draws: _Draws) -> Tensor:
    if draws.happens("flip", window.flip_probability):
        clip_3_T_H_W = clip_3_T_H_W.flip(3)
    if draws.happens("reverse", window.reverse_probability):
        clip_3_T_H_W = clip_3_T_H_W.flip(1)
    return clip_3_T_H_W

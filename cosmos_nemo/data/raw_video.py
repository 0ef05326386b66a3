"""Shards of video files to batches of clips: a window in time and space of every file, decoded as it is read.

Reads what `data_prep shards --for tokenizer` wrote, and bare folders of tars that hold nothing but ``1.mp4 2.mp4 ...``.
What is cut out of a file is keyed by (seed, sample, pass over the data): it does not depend on the number of readers,
and it is the same after a resume.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from megatron.energon import MapDataset, Sample, WorkerConfig, basic_sample_keys, edataclass, stateless
from megatron.energon.flavors.base_dataset import SavableDataset
from torch import Tensor

from cosmos_nemo.data.batch import SampleBatch
from cosmos_nemo.data.loader import CookedSample, SampleTaskEncoder, SkippedSamples, shard_of
from cosmos_nemo.data.manifest import Manifest
from cosmos_nemo.data.schema import SampleError, VideoSample, sample_id
from cosmos_nemo.errors import UserError
from cosmos_nemo.media.fit import Fit
from cosmos_nemo.media.frames import read_indices
from cosmos_nemo.media.pictures import VideoError, read_image, resize, to_unit
from cosmos_nemo.media.probe import probe_video
from cosmos_nemo.numerics.keyed import generator

_WHOLE: dict[str, Fit] = {"cover": "cover", "stretch": "stretch"}  # ways to show the whole picture


@dataclass(frozen=True, kw_only=True)
class ClipWindow:
    """What is cut out of a video. The defaults are those of the published tokenizer post-training."""

    num_frames: int = 49
    """Frames of a clip."""
    height: int = 256
    """Pixels of a clip."""
    width: int = 256
    """Pixels of a clip."""
    stride: int = 1
    """Frames of the file from one frame of the clip to the next."""
    time: Literal["random", "centre", "start"] = "random"
    """Where in the file a clip starts."""
    space: Literal["random", "centre", "cover", "stretch"] = "random"
    """`random` and `centre` cut the size out of the picture. The others make the whole picture that size: `cover`
    scales it to cover the size and cuts off what is left over on both sides, `stretch` gives it another shape."""
    resize_short_side: int | None = None
    """Pixels of the shorter side after a resize that comes before cutting; None leaves the picture as it is."""
    resize_probability: float = 1.0
    """How often that resize is done; 0.9 in the published training from scratch."""
    flip_probability: float = 0.0
    """How often left and right change places; 0.5 in the published training from scratch."""
    reverse_probability: float = 0.0
    """How often a clip runs backwards; 0.5 in the published training from scratch."""

    def __post_init__(self) -> None:
        """Reject what would not work.

        Raises:
            UserError: names the field.
        """
        for name in ("num_frames", "height", "width", "stride"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} of a clip: use 1 or more.")
        for name in ("resize_probability", "flip_probability", "reverse_probability"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"{name}={getattr(self, name)} of a clip: use a value from 0 to 1.")
        if self.time not in ("random", "centre", "start"):
            raise UserError(f"time={self.time!r} of a clip: use random, centre or start.")
        if self.space not in ("random", "centre", "cover", "stretch"):
            raise UserError(f"space={self.space!r} of a clip: use random, centre, cover or stretch.")

    @property
    def span(self) -> int:
        """Frames of the file from the first to the last one of a clip, both counted."""
        return (self.num_frames - 1) * self.stride + 1

    def still(self) -> "ClipWindow":
        """The same sizes from the middle of everything, nothing turned around: what validation looks at."""
        return replace(
            self,
            time="centre",
            space="centre" if self.space == "random" else self.space,
            flip_probability=0.0,
            reverse_probability=0.0,
            resize_probability=float(self.resize_probability >= 0.5),
        )


@dataclass(kw_only=True)
class VideoBatch(SampleBatch):
    """Clips as they come from files."""

    video_B_3_T_H_W: Tensor  # RGB, uint8
    fps_B: Tensor  # frames per second of the clips, the stride taken into account; 0 for pictures
    start_B: Tensor  # index of the clip's first frame in its file, int64

    def pixels(self) -> Tensor:
        """The clips as networks take them: RGB in [-1, 1], float32, [B, 3, T, H, W]."""
        return to_unit(self.video_B_3_T_H_W)


@edataclass
class CookedVideo(CookedSample):
    """A file that is about to be read for the n-th time."""

    pass_index: int


@edataclass
class CutVideo(Sample):
    """A clip of a file."""

    content: Any


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A decoded clip."""

    key: str
    video_3_T_H_W: Tensor  # uint8
    fps: float
    start: int


class RawVideoTaskEncoder(SampleTaskEncoder[VideoSample, VideoBatch]):
    """Makes `VideoBatch`es of video files. Files that cannot be used are skipped, and counted with the reason."""

    sample_type = VideoSample

    def __init__(
        self,
        manifest: Manifest | None = None,
        skipped: SkippedSamples | None = None,
        *,
        window: ClipWindow,
        seed: int = 0,
    ) -> None:
        """Make a task encoder.

        Args:
            manifest: see `SampleTaskEncoder`; also `skipped`.
            skipped: counts the samples that cannot be read.
            window: what is cut out of every file.
            seed: of what is random about it.
        """
        super().__init__(manifest, skipped)
        self.window = window
        self.seed = seed
        self._sources: list[SavableDataset[Any]] = []

    def build_cook_crude_sample(
        self, dataset: SavableDataset[Any], *, worker_config: WorkerConfig, **settings: Any
    ) -> MapDataset[Any, Any]:
        """Notes how many files there are, so that `cook` can count passes."""
        self._sources.append(dataset)
        return super().build_cook_crude_sample(dataset, worker_config=worker_config, **settings)

    @stateless
    def cook(self, raw: dict[str, Any]) -> CookedSample:
        """Keep the file as it is: shuffling then holds compressed files in memory, not clips."""
        cooked = super().cook(raw)
        return CookedVideo(**basic_sample_keys(raw), content=cooked.content, pass_index=self._pass_index())

    def _pass_index(self) -> int:
        """How often this reader has gone through its files.

        Energon counts the samples that a reader has cooked, over all passes, and restores the count. The files of a
        blend are not read equally often: there every count stands for itself, which is as unique.
        """
        config = WorkerConfig.active_worker_config
        assert config is not None
        count = (self.current_sample_index - config.rank_worker_id()) // max(config.num_workers, 1)
        return count // self._sources[0].len_worker() if len(self._sources) == 1 else count

    @stateless
    def encode_sample(self, sample: CookedVideo) -> CutVideo:
        """Cut a clip out of a file."""
        try:
            clip = cut(sample.content, self.window, seed=self.seed, pass_index=sample.pass_index)
        except VideoError as error:
            self.skip(SampleError(f"sample {sample.__key__!r}: {error}"), shard_of(sample))
        self.skipped.good()
        return CutVideo(
            __key__=sample.__key__,
            __restore_key__=sample.__restore_key__,
            __subflavors__=sample.__subflavors__,
            __sources__=sample.__sources__,
            content=clip,
        )

    def collate(self, samples: list[Clip]) -> VideoBatch:  # type: ignore[override]  # clips, not the files
        """Stack clips."""
        return VideoBatch(
            video_B_3_T_H_W=torch.stack([clip.video_3_T_H_W for clip in samples]),
            fps_B=torch.tensor([clip.fps for clip in samples], dtype=torch.float32),
            start_B=torch.tensor([clip.start for clip in samples], dtype=torch.int64),
            sample_id_B=torch.tensor([sample_id(clip.key) for clip in samples], dtype=torch.int64),
            keys=[clip.key for clip in samples],
        )


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

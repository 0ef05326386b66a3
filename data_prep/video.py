"""Reading and writing video files with PyAV: exact frames, one frame in memory at a time while decoding."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from torch import Tensor


class VideoError(ValueError):
    """A video that cannot be read; the message says why in a few words."""


@dataclass(frozen=True, kw_only=True)
class VideoProbe:
    """What a video file holds, found by reading its packets, not by trusting its header."""

    height: int
    width: int
    fps: float
    codec: str
    pts: tuple[int | None, ...]  # presentation time of every frame, sorted; None throughout when they are unusable
    keyframes: tuple[tuple[int, int], ...]  # (presentation time, decoding time) of every keyframe, sorted

    @property
    def num_frames(self) -> int:
        """Frames in the file."""
        return len(self.pts)


def probe_video(path: Path) -> VideoProbe:
    """Read a file's packets without decoding them.

    Raises:
        VideoError: it is no video, damaged, or empty.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise VideoError("unreadable: no video stream")
            stream = container.streams.video[0]
            # FFmpeg does not show packets that an edit list hides.
            packets = [p for p in container.demux(stream) if p.size and not p.is_discard]
            pts = [p.pts for p in packets if p.pts is not None]
            usable = len(set(pts)) == len(packets)
            keyframes = [(p.pts, p.dts) for p in packets if p.is_keyframe and p.pts is not None and p.dts is not None]
            probe = VideoProbe(
                height=stream.height,
                width=stream.width,
                fps=float(stream.average_rate or stream.guessed_rate or 0),
                codec=stream.codec_context.name,
                pts=tuple(sorted(pts)) if usable else (None,) * len(packets),
                keyframes=tuple(sorted(keyframes)),
            )
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f"unreadable: {_reason(error)}") from error
    if not probe.num_frames:
        raise VideoError("unreadable: no frames")
    if not probe.height or not probe.width:
        raise VideoError("unreadable: no picture size")
    return probe


def read_frames(path: Path, probe: VideoProbe, *, start: int, num_frames: int, size: tuple[int, int]) -> Tensor:
    """Decode consecutive frames, counted in order of presentation, and resize each to exactly `size`.

    Only the frames from the keyframe before `start` on are decoded; if that does not give exactly the wanted ones, the
    file is decoded from its beginning. Aspect ratio is not preserved, as in Cosmos-Predict2.

    Args:
        path: the file.
        probe: what `probe_video` says about it.
        start: index of the first frame.
        num_frames: frames wanted.
        size: (height, width) of the result.

    Returns: uint8 RGB, shape [3, num_frames, height, width].

    Raises:
        VideoError: a frame cannot be decoded.
    """
    if start < 0 or num_frames < 1 or start + num_frames > probe.num_frames:
        raise VideoError(f"frames {start} to {start + num_frames - 1} asked of {probe.num_frames}")
    wanted = probe.pts[start : start + num_frames]
    video_3_T_H_W = torch.empty(3, num_frames, *size, dtype=torch.uint8)
    try:
        if wanted[0] is None or not _fill(path, video_3_T_H_W, _after_seek(path, probe, wanted), wanted):
            _fill_by_count(path, video_3_T_H_W, start)
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f"unreadable: {_reason(error)}") from error
    return video_3_T_H_W


def _after_seek(path: Path, probe: VideoProbe, wanted: tuple[int | None, ...]) -> Iterator[av.VideoFrame]:
    """Frames from the first wanted one on, reached through the keyframe before it."""
    first: Any = wanted[0]
    before = [dts for pts, dts in probe.keyframes if pts <= first]
    with av.open(str(path)) as container:
        stream = _decoding_stream(container)
        if before and before[-1] > min(dts for _, dts in probe.keyframes):
            container.seek(before[-1], stream=stream, backward=True, any_frame=False)
        for frame in container.decode(stream):
            if frame.pts is not None and frame.pts >= first:
                yield frame


def _fill(path: Path, out_3_T_H_W: Tensor, frames: Iterator[av.VideoFrame], wanted: tuple[int | None, ...]) -> bool:
    """Store the wanted frames; False if one of another time turns up."""
    converter = _Converter(out_3_T_H_W.shape[-2:])
    for index, pts in enumerate(wanted):
        frame = next(frames, None)
        if frame is None or frame.pts != pts:
            return False
        out_3_T_H_W[:, index] = converter(_intact(frame))
    return True


def _fill_by_count(path: Path, out_3_T_H_W: Tensor, start: int) -> None:
    converter = _Converter(out_3_T_H_W.shape[-2:])
    num_frames = out_3_T_H_W.shape[1]
    index = -1
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(_decoding_stream(container))):
            if index >= start:
                out_3_T_H_W[:, index - start] = converter(_intact(frame))
            if index == start + num_frames - 1:
                return
    raise VideoError(f"unreadable: only {index + 1} frames can be decoded")


def _intact(frame: av.VideoFrame) -> av.VideoFrame:
    # FFmpeg fills in what it cannot decode and only leaves this mark.
    if frame.is_corrupt:
        raise VideoError(f"unreadable: the frame at {frame.time:.3f} s is damaged")
    return frame


def _decoding_stream(container: Any) -> Any:
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1  # one decoding thread per process keeps the order of work fixed
    return stream


class _Converter:
    """Frame to RGB at the wanted size; one swscale context for the whole clip."""

    def __init__(self, size: Sequence[int]) -> None:
        self._size = (size[0], size[1])
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> Tensor:
        """Convert a frame to uint8 RGB, shape [3, H, W]."""
        rgb_H_W_3 = self._reformatter.reformat(frame, format="rgb24").to_ndarray()
        return resize_image(torch.from_numpy(rgb_H_W_3).permute(2, 0, 1), self._size)


def resize_image(image_3_H_W: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a uint8 picture with antialiasing.

    uint8 all the way agrees with upstream's float32 to one grey level and takes a sixth of the time.
    """
    if tuple(image_3_H_W.shape[-2:]) == tuple(size):
        return image_3_H_W
    return torch.nn.functional.interpolate(image_3_H_W[None], size=tuple(size), mode="bilinear", antialias=True)[0]


def read_image(path: Path) -> Tensor:
    """Read a picture file.

    Returns: uint8 RGB, shape [3, H, W].

    Raises:
        VideoError: it cannot be read.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise VideoError(f"unreadable: {_reason(error)}") from error


def write_video(path: Path, frames_T_H_W_3: np.ndarray, *, fps: float) -> None:
    """Write an H.264 mp4 whose bytes depend on the arguments alone, in one step.

    Args:
        path: the file; a complete one appears or none.
        frames_T_H_W_3: uint8 RGB; even height and width.
        fps: frames per second.
    """
    temporary = path.with_name(path.name + ".tmp")
    _, height, width, _ = frames_T_H_W_3.shape
    with av.open(str(temporary), mode="w", format="mp4", options={"fflags": "+bitexact"}) as container:
        rate = Fraction(fps).limit_denominator(1001)
        # x264 splits its work, and so its output, by the number of threads. Its lookahead (B-frames, weighted
        # prediction, macroblock trees) gave other bytes in one run of ten even with one thread.
        simple = "weightp=0:mbtree=0:rc-lookahead=0"
        options = {"crf": "12", "preset": "veryfast", "threads": "1", "bf": "0", "x264-params": simple}
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for frame in frames_T_H_W_3:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    os.replace(temporary, path)


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error).splitlines()[0]
    return str(text)

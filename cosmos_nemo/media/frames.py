"""Exact frames of video files: by index, in ranges, as a stream, at another frame rate, at another size.

    probe = probe_video(path)
    clip_3_T_H_W = read_frames(path, probe, start=40, num_frames=93, size=(704, 1280))
    for frame_3_H_W in iter_frames(path, probe, resampled_indices(probe, 16.0)): ...

Frames are upright RGB with square pixels. What is decoded is held to the times that `probe_video` found: a frame is the
right one, or an error.
"""

import bisect
import itertools
from collections.abc import Collection, Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from torch import Tensor

from cosmos_nemo.media.fit import Fit
from cosmos_nemo.media.pictures import Size, VideoError, resize
from cosmos_nemo.media.probe import VideoProbe, VideoSource, open_video

NEAR = 8  # frames; a keyframe this close ahead is reached sooner by decoding on than by seeking
CAN_SKIP = "h264"  # its decoder can be told at every frame not to decode it if no other one needs it


def read_frames(
    source: VideoSource,
    probe: VideoProbe,
    *,
    start: int,
    num_frames: int,
    size: Size | None = None,
    fit: Fit = "stretch",
) -> Tensor:
    """Decode consecutive frames; see `read_indices`.

    Returns:
        uint8 RGB, shape [3, num_frames, height, width].
    """
    if start < 0 or num_frames < 1 or start + num_frames > probe.num_frames:
        raise VideoError(f"has {probe.num_frames} frames, but frames {start} to {start + num_frames - 1} are wanted")
    return read_indices(source, probe, range(start, start + num_frames), size=size, fit=fit)


def read_indices(
    source: VideoSource, probe: VideoProbe, indices: Sequence[int], *, size: Size | None = None, fit: Fit = "stretch"
) -> Tensor:
    """Decode the frames with these indices, in this order; an index may occur twice.

    Args:
        source: the file, or its content.
        probe: the result of `probe_video` for it.
        indices: in order of presentation, from 0.
        size: of the result; the displayed size if None.
        fit: how frames are brought to this size.

    Returns:
        uint8 RGB, shape [3, len(indices), height, width].

    Raises:
        VideoError: there is no such frame, or it cannot be decoded.
    """
    order = sorted(range(len(indices)), key=lambda place: indices[place])
    height, width = size or (probe.height, probe.width)
    video_3_T_H_W = torch.empty(3, len(indices), height, width, dtype=torch.uint8)
    frames = iter_frames(source, probe, [indices[place] for place in order], size=size, fit=fit)
    for place, frame_3_H_W in zip(order, frames, strict=True):
        video_3_T_H_W[:, place] = frame_3_H_W
    return video_3_T_H_W


def iter_frames(
    source: VideoSource,
    probe: VideoProbe,
    indices: Sequence[int] | None = None,
    *,
    size: Size | None = None,
    fit: Fit = "stretch",
) -> Iterator[Tensor]:
    """Decode frames one after the other, with one in memory at a time.

    The file is sought to the nearest keyframe before a wanted frame, at the first one and after gaps.

    Args:
        source: the file, or its content.
        probe: the result of `probe_video` for it.
        indices: of the frames, not decreasing; all of them if None.
        size: of the result; the displayed size if None.
        fit: how frames are brought to this size.

    Yields:
        uint8 RGB, shape [3, height, width].

    Raises:
        VideoError: there is no such frame, or it cannot be decoded.
    """
    indices = range(probe.num_frames) if indices is None else indices
    for index in indices:
        if not 0 <= index < probe.num_frames:
            raise VideoError(f"has {probe.num_frames} frames, but frame {index} is wanted")
    assert all(a <= b for a, b in itertools.pairwise(indices)), "indices must not decrease"
    convert = _Converter(probe, size, fit)
    decoded, last, frame_3_H_W = _decode(source, probe, list(dict.fromkeys(indices))), -1, torch.empty(0)
    for index in indices:
        if index != last:
            frame_3_H_W, last = convert(next(decoded)), index
        yield frame_3_H_W


def resampled_indices(probe: VideoProbe, fps: float) -> list[int]:
    """Return the frames to show at another frame rate: at each time, the frame nearest to it.

    With t_i the time of frame i counted from the first and D the duration, there are max(1, floor(D * fps + 1/2))
    outputs, and output k is frame argmin_i |t_i - k/fps|, the earlier one of two that are equally near. At the file's
    own constant rate that is every frame once.

    Returns:
        frame indices, not decreasing.
    """
    rate = Fraction(fps).limit_denominator(1001)
    if rate <= 0:
        raise VideoError(f"the frame rate {fps} must be positive")
    count = max(1, int(probe.duration * rate + Fraction(1, 2)))
    return [nearest_index(probe, k / rate) for k in range(count)]


def nearest_index(probe: VideoProbe, seconds: Fraction) -> int:
    """Return the frame nearest to a time, counted from the first frame; the earlier of two that are equally near."""
    times = probe.seconds
    after = bisect.bisect_left(times, seconds)
    candidates = [index for index in (after - 1, after) if 0 <= index < len(times)]
    return min(candidates, key=lambda index: (abs(times[index] - seconds), index))


class _LostError(Exception):
    """Seeking did not lead to the wanted frame."""


def _decode(source: VideoSource, probe: VideoProbe, wanted: Sequence[int]) -> Iterator[av.VideoFrame]:
    """Give the frames with these indices, each once, in increasing order."""
    done = 0
    if probe.pts[0] is not None and probe.keyframes:
        try:
            for frame in _by_time(source, probe, wanted):
                yield frame
                done += 1
        except _LostError:
            pass  # some formats seek inexactly; from the beginning the count decides
    if done < len(wanted):
        yield from _by_count(source, probe, wanted[done:])


def _by_time(source: VideoSource, probe: VideoProbe, wanted: Sequence[int]) -> Iterator[av.VideoFrame]:
    shown = {probe.pts[index] for index in wanted}
    with open_video(source) as (container, stream):
        frames = _decode_on(container, stream, shown)
        here = 0  # index of the next frame that decoding on would give
        for index in wanted:
            pts = probe.pts[index]
            assert pts is not None
            key = probe.keyframe_before(pts)
            if key is not None and probe.index_at(key) > here + NEAR:
                # Not to the keyframe's own time: under an edit list FFmpeg takes it for that of an earlier one.
                container.seek(pts, stream=stream, backward=True, any_frame=False)
                frames = _decode_on(container, stream, shown)
            for frame in frames:
                if frame.pts is None or frame.pts > pts:
                    raise _LostError
                if frame.pts == pts:
                    break
            else:
                raise _LostError
            if frame.is_corrupt:
                raise _LostError  # the keyframe may have been none
            yield frame
            here = index + 1


def _decode_on(container: Any, stream: Any, shown: Collection[int | None]) -> Iterator[av.VideoFrame]:
    """Decode from here to the end, except for frames that are neither shown nor needed for others."""
    can_skip = stream.codec_context.name == CAN_SKIP
    for packet in container.demux(stream):
        if can_skip:
            needed = packet.pts is None or packet.pts in shown
            stream.codec_context.skip_frame = "DEFAULT" if needed else "NONREF"
        yield from packet.decode()


def _by_count(source: VideoSource, probe: VideoProbe, wanted: Sequence[int]) -> Iterator[av.VideoFrame]:
    places = iter(wanted)
    place = next(places)
    index = -1
    with open_video(source) as (container, stream):
        for index, frame in enumerate(container.decode(stream)):
            if index < place:
                continue
            if probe.pts[index] is not None and frame.pts not in (None, probe.pts[index]):
                raise VideoError(f"unreadable: frame {index} cannot be decoded")
            # FFmpeg fills in what it cannot decode and only leaves this mark.
            if frame.is_corrupt:
                raise VideoError(f"unreadable: frame {index} is damaged")
            yield frame
            following = next(places, None)
            if following is None:
                return
            place = following
    raise VideoError(f"unreadable: only {index + 1} frames can be decoded")


class _Converter:
    """Converts decoded frames to RGB at the wanted size, with one swscale context for the whole clip."""

    def __init__(self, probe: VideoProbe, size: Size | None, fit: Fit) -> None:
        self._probe = probe
        self._display = (probe.height, probe.width)
        self._size = size or self._display
        self._fit: Fit = fit if size else "stretch"
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> Tensor:
        """Convert a frame to uint8 RGB, shape [3, H, W]."""
        plane = self._reformatter.reformat(frame, format="rgb24", threads=1).planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(
            plane.height, plane.line_size
        )  # padded to a round number
        rgb_H_W_3 = torch.from_numpy(rows)[:, : plane.width * 3].view(plane.height, plane.width, 3)
        rgb_3_H_W = self._probe.orientation.apply(rgb_H_W_3).permute(2, 0, 1)
        return resize(rgb_3_H_W, self._size, fit=self._fit, display_size=self._display)

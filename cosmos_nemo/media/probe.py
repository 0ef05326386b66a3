"""Find out what a video file holds by reading its packets instead of trusting its header."""

import bisect
import io
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.sidedata.sidedata import Type as SideDataType

from cosmos_nemo.media.pictures import Orientation, Size, VideoError, reason_of

VideoSource = Path | str | bytes
"""A file, or the content of one."""


@dataclass(frozen=True, kw_only=True)
class VideoProbe:
    """Contents of a video. Frames are counted in order of presentation, without those that an edit list hides."""

    height: int
    """Pixels as displayed: upright, and square."""
    width: int
    """Pixels as displayed: upright, and square."""
    fps: float
    """Average frame rate; 0 if unknown."""
    codec: str
    """Name of the codec, such as "h264"."""
    pts: tuple[int | None, ...]
    """Presentation time of every frame, sorted; None throughout if they are unusable."""
    keyframes: tuple[int, ...]
    """Presentation times of keyframes, sorted."""
    pixel_format: str = "yuv420p"
    """FFmpeg's name of the pixel format."""
    time_base: Fraction = Fraction(1)
    """Seconds per unit of `pts`."""
    sample_aspect_ratio: Fraction = Fraction(1)
    """Width of a coded pixel divided by its height."""
    orientation: Orientation = Orientation()

    @property
    def num_frames(self) -> int:
        """Number of frames in the file."""
        return len(self.pts)

    @cached_property
    def seconds(self) -> tuple[Fraction, ...]:
        """Exact time of every frame, the first at 0."""
        if self.pts[0] is None:
            return tuple(index / Fraction(self.fps or 1).limit_denominator(1001) for index in range(self.num_frames))
        return tuple((pts - self.pts[0]) * self.time_base for pts in self.pts if pts is not None)

    @property
    def duration(self) -> Fraction:
        """Seconds from the first frame's start to the last one's end, which is taken to last as long as the average."""
        if self.num_frames == 1:
            return 1 / Fraction(self.fps).limit_denominator(1001) if self.fps else Fraction(1)
        return self.seconds[-1] * self.num_frames / (self.num_frames - 1)

    @property
    def has_constant_rate(self) -> bool:
        """Whether all frames are equally far apart, to one unit of the file's clock."""
        gaps = {b - a for a, b in itertools.pairwise(self.seconds)}
        return not gaps or max(gaps) - min(gaps) <= self.time_base

    def index_at(self, pts: int) -> int:
        """Return the index of the first frame that is not before a presentation time."""
        return bisect.bisect_left(self.pts, pts, key=lambda time: time or 0)

    def keyframe_before(self, pts: int) -> int | None:
        """Return the presentation time of the last keyframe that is not after this one."""
        place = bisect.bisect_right(self.keyframes, pts)
        return self.keyframes[place - 1] if place else None


@contextmanager
def open_video(source: VideoSource) -> Iterator[tuple[Any, Any]]:
    """Open a video for reading.

    Yields:
        the container and its video stream, set to decode in this thread alone: one thread per process keeps the order
        of work fixed, and the threads of a reader's workers few.

    Raises:
        VideoError: it is not a video, or something goes wrong while it is open.
    """
    try:
        with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source)) as container:
            streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
            if not streams:
                raise VideoError("unreadable: no video stream")
            streams[0].codec_context.thread_count = 1
            yield container, streams[0]
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f"unreadable: {reason_of(error)}") from error


def probe_video(source: VideoSource) -> VideoProbe:
    """Read a file's packets, and decode its first frame.

    Raises:
        VideoError: it is not a video, or it is damaged, truncated or empty.
    """
    with open_video(source) as (container, stream):
        packets, first = _read_packets(container, stream)
        shown = [packet for packet in packets if not packet.is_hidden]
        pts = [packet.pts for packet in shown if packet.pts is not None]
        # AVI and bare streams store no presentation times; where frames are out of order, FFmpeg's guess is wrong.
        guessed = not any(name in container.format.name for name in ("mp4", "matroska", "mpegts"))
        in_decoding_order = guessed and stream.codec_context.has_b_frames and pts == sorted(pts)
        usable = len(set(pts)) == len(shown) and not in_decoding_order
        aspect = stream.sample_aspect_ratio or Fraction(1)
        if first is None or not shown:
            raise VideoError("unreadable: no frames")
        orientation = _orientation(first)
        height, width = orientation.turn(_square((first.height, first.width), aspect))
        probe = VideoProbe(
            height=height,
            width=width,
            fps=float(stream.average_rate or stream.guessed_rate or 0),
            codec=stream.codec_context.codec.canonical_name,
            pts=tuple(sorted(pts)) if usable else (None,) * len(shown),
            keyframes=tuple(sorted(p.pts for p in packets if p.is_keyframe and p.pts is not None)),
            pixel_format=first.format.name,
            time_base=stream.time_base or Fraction(1),
            sample_aspect_ratio=aspect,
            orientation=orientation,
        )
    if not probe.height or not probe.width:
        raise VideoError("unreadable: no picture size")
    return probe


class _Packet(NamedTuple):
    pts: int | None
    dts: int | None
    is_keyframe: bool
    is_hidden: bool
    """Whether an edit list hides it."""


def _read_packets(container: Any, stream: Any) -> tuple[list[_Packet], av.VideoFrame | None]:
    """Read a file from its beginning.

    Returns:
        its packets, and the first frame.
    """
    packets: list[_Packet] = []
    first = None
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise VideoError(f"unreadable: damaged or truncated at frame {len(packets)}")
        if first is None:
            first = next(iter(packet.decode()), None)
        if packet.size:
            packets.append(_Packet(packet.pts, packet.dts, packet.is_keyframe, packet.is_discard))
    # An mp4's index knows what the file should hold; other formats' indexes list some frames only.
    if "mp4" in container.format.name and len(packets) < (expected := sum(1 for e in stream.index_entries if e.size)):
        raise VideoError(f"unreadable: truncated after {len(packets)} of {expected} frames")
    return packets, first


def _orientation(frame: av.VideoFrame) -> Orientation:
    container: Any = frame.side_data  # a mapping only by name: iteration gives what it holds
    for data in container.keys():
        if data.type == SideDataType.DISPLAYMATRIX:
            return Orientation.from_matrix(bytes(data))
    return Orientation()


def _square(coded: Size, aspect: Fraction) -> Size:
    """Return the size in square pixels; the height stays."""
    return coded[0], int(coded[1] * aspect + Fraction(1, 2))

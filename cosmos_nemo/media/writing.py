"""Write H.264 videos and PNG images; the one place that drives a video encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import imageio.v3 as iio
from av.error import FFmpegError
from torch import Tensor

from cosmos_nemo.errors import UserError
from cosmos_nemo.files import staged
from cosmos_nemo.media.pictures import Size, VideoError

AppendFrames = Callable[[Tensor], None]
"""Appends frames_T_3_H_W, uint8 RGB, to a video."""

BITEXACT = {"fflags": "+bitexact"}
"""FFmpeg's container option that keeps dates and versions out of a file."""

_ONE_THREAD_NO_LOOKAHEAD = {
    # x264 splits its work, and so its output, by the number of threads. Its lookahead (B-frames, weighted prediction,
    # macroblock trees) gave other bytes in one run of ten even with one thread.
    "threads": "1",
    "bf": "0",
    "x264-params": "weightp=0:mbtree=0:rc-lookahead=0",
}


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Settings of the H.264 encoder. The pixel format is always yuv420p, which every player shows."""

    crf: int = 18
    """Quality, from 0 (lossless) to 51 (worst); 18 looks lossless."""
    preset: str = "medium"
    """x264's trade of time for size, such as "veryfast" or "medium"."""
    keyframe_interval: int | None = None
    """Frames between keyframes at most; None is FFmpeg's default."""
    reproducible: bool = False
    """Whether equal frames give equal bytes, on every run and machine; the file is larger for it."""


FOR_VIEWING = Encoding()
"""For people to look at."""


def write_video(frames_T_3_H_W: Tensor, path: str | Path, *, fps: float, encoding: Encoding = FOR_VIEWING) -> Path:
    """Write an mp4, complete or not at all.

    Args:
        frames_T_3_H_W: uint8 RGB; height and width even.
        path: target, replaced if it exists.
        fps: frames per second.
        encoding: settings of the encoder.

    Returns:
        the path.

    Raises:
        UserError: the size is odd, or the encoder refused.
    """
    height, width = frames_T_3_H_W.shape[2:]
    with open_writer(path, size=(height, width), fps=fps, encoding=encoding) as append:
        append(frames_T_3_H_W)
    return Path(path)


@contextmanager
def open_writer(
    path: str | Path, *, size: Size, fps: float, encoding: Encoding = FOR_VIEWING
) -> Iterator[AppendFrames]:
    """Write an mp4, some frames at a time; it appears when the block ends well.

    Args:
        path: target, replaced if it exists.
        size: height and width, even.
        fps: frames per second.
        encoding: settings of the encoder.

    Yields:
        a function that appends frames.

    Raises:
        UserError: the size is odd, or the encoder refused.
    """
    _check_size(size)
    with _told_of(path), staged(path, overwrite=True) as temporary, _encoder(temporary, size, fps, encoding) as append:
        yield append


@contextmanager
def encode_to(file: Path, *, size: Size, fps: float, encoding: Encoding) -> Iterator[AppendFrames]:
    """Write an mp4 as `open_writer` does, but straight to `file`: for files that are temporary anyway."""
    _check_size(size)
    with _told_of(file), _encoder(file, size, fps, encoding) as append:
        yield append


@contextmanager
def _encoder(file: Path, size: Size, fps: float, encoding: Encoding) -> Iterator[AppendFrames]:
    options = {"crf": str(encoding.crf), "preset": encoding.preset}
    if encoding.reproducible:
        options |= _ONE_THREAD_NO_LOOKAHEAD
    with av.open(str(file), mode="w", format="mp4", options=BITEXACT if encoding.reproducible else {}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=options)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        if encoding.keyframe_interval is not None:
            stream.gop_size = encoding.keyframe_interval

        def append(frames_T_3_H_W: Tensor) -> None:
            for pixels_H_W_3 in frames_T_3_H_W.permute(0, 2, 3, 1).contiguous().numpy():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels_H_W_3, format="rgb24")))

        yield append
        container.mux(stream.encode())


@contextmanager
def _told_of(path: str | Path) -> Iterator[None]:
    """Raise a UserError that names the video when the encoder fails."""
    try:
        yield
    except FFmpegError as error:
        raise UserError(f"The video {path} cannot be written: {error}.") from error


def _check_size(size: Size) -> None:
    height, width = size
    if height % 2 or width % 2:
        raise UserError(f"An H.264 video needs an even size, not {height}x{width} (height x width).")


def even_size(height: int, width: int) -> tuple[int, int]:
    """Return the largest size that H.264 can hold within this one.

    Raises:
        VideoError: there is none.
    """
    if height < 2 or width < 2:
        raise VideoError(f"unusable: a picture of {height}x{width} pixels")
    return height - height % 2, width - width % 2


def write_image(frame_3_H_W: Tensor, path: str | Path) -> Path:
    """Write one uint8 RGB frame as PNG (or as the path's suffix says); complete or not at all."""
    path = Path(path)
    with staged(path, overwrite=True) as temporary:
        iio.imwrite(temporary, frame_3_H_W.permute(1, 2, 0).contiguous().numpy(), plugin="pillow")
    return path

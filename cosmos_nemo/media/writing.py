"""Reads conditioning images and clips, and writes H.264 videos and PNG images, with PyAV and imageio."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import imageio.v3 as iio
import torch
from av.error import FFmpegError
from torch import Tensor

from cosmos_nemo.errors import UserError
from cosmos_nemo.files import staged
from cosmos_nemo.media import frames
from cosmos_nemo.media.pictures import VideoError, read_image, resize
from cosmos_nemo.media.probe import probe_video

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".gif")


def read_frames(path: str | Path, *, last: int | None = None, first: int | None = None) -> Tensor:
    """Decode an image, or the last or first frames of a video.

    Args:
        path: image or video file.
        last: keep at most this many frames from the end.
        first: stop after this many frames.

    Returns:
        frames_T_3_H_W, uint8 RGB; an image is one frame, and a video may hold fewer frames than asked for.

    Raises:
        UserError: no such file, unknown kind, or not readable.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"Input {path} does not exist; give an image ({', '.join(IMAGE_SUFFIXES)}) or a video.")
    image = path.suffix.lower() in IMAGE_SUFFIXES
    try:
        if image:
            return read_image(path)[None]
        probe = probe_video(path)
        count = min(value for value in (first, last, probe.num_frames) if value is not None)
        start = probe.num_frames - count if last is not None else 0
        return frames.read_frames(path, probe, start=start, num_frames=count).permute(1, 0, 2, 3)
    except VideoError as error:
        raise UserError(f"Input {'image' if image else 'video'} {path} cannot be read: {error}.") from error


def cover_and_crop(frames_T_3_H_W: Tensor, height: int, width: int) -> Tensor:
    """Scale to cover the target size (antialiased, size rounded up) and crop its centre.

    With ratio = max(width / w, height / h) nothing is distorted and no border appears.

    Args:
        frames_T_3_H_W: uint8 RGB.
        height: target height.
        width: target width.

    Returns:
        frames_T_3_H_W of the target size, uint8.
    Source: cosmos-predict2, `cosmos_predict2/pipelines/video2world.py` (resize_input).
    """
    return resize(frames_T_3_H_W, (height, width), fit="cover_ceil")


def to_unit(frames_T_3_H_W: Tensor) -> Tensor:
    """Frames uint8 [T, 3, H, W] -> video_1_3_T_H_W float32 in [-1, 1]."""
    return frames.to_unit(frames_T_3_H_W.permute(1, 0, 2, 3)[None].contiguous())


def to_bytes(video_1_3_T_H_W: Tensor) -> Tensor:
    """Video in [-1, 1] -> frames_T_3_H_W uint8: the inverse of `to_unit`."""
    frames = video_1_3_T_H_W[0].permute(1, 0, 2, 3)
    return ((frames.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()


def write_video(frames_T_3_H_W: Tensor, path: str | Path, *, fps: float, crf: int = 18) -> Path:
    """Write an H.264 mp4 in pixel format yuv420p, which every player shows; complete or not at all.

    Args:
        frames_T_3_H_W: uint8 RGB; height and width even.
        path: target, replaced if it exists.
        fps: frames per second.
        crf: quality of the encoder, 0 lossless to 51 worst; 18 looks lossless.

    Returns:
        the path.

    Raises:
        UserError: odd size, or the encoder refused.
    """
    with open_writer(path, size=(frames_T_3_H_W.shape[2], frames_T_3_H_W.shape[3]), fps=fps, crf=crf) as write:
        write(frames_T_3_H_W)
    return Path(path)


@contextmanager
def open_writer(
    path: str | Path, *, size: tuple[int, int], fps: float, crf: int = 18
) -> Iterator[Callable[[Tensor], None]]:
    """Write a video as `write_video` does, some frames at a time.

    Args:
        path: target, replaced if it exists; it appears when the block ends well.
        size: height and width, even.
        fps: frames per second.
        crf: quality of the encoder.

    Yields:
        what appends frames_T_3_H_W, uint8 RGB.

    Raises:
        UserError: odd size, or the encoder refused.
    """
    path, (height, width) = Path(path), size
    if height % 2 or width % 2:
        raise UserError(f"An H.264 video needs an even size, not {height}x{width} (height x width).")
    try:
        with staged(path, overwrite=True) as temporary, av.open(str(temporary), mode="w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.options = {"crf": str(crf), "preset": "medium"}

            def write(frames_T_3_H_W: Tensor) -> None:
                for pixels in frames_T_3_H_W.permute(0, 2, 3, 1).contiguous().numpy():
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))

            yield write
            container.mux(stream.encode())
    except FFmpegError as error:
        raise UserError(f"The video {path} cannot be written: {error}.") from error


def write_image(frame_3_H_W: Tensor, path: str | Path) -> Path:
    """Write one uint8 RGB frame as PNG (or as the path's suffix says); complete or not at all."""
    path = Path(path)
    with staged(path, overwrite=True) as temporary:
        iio.imwrite(temporary, frame_3_H_W.permute(1, 2, 0).contiguous().numpy(), plugin="pillow")
    return path

"""Videos made in code, with everything that makes exact reading hard."""

import io
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import torch

from cosmos_nemo.data.window import ClipWindow

CLOCK = Fraction(1, 1000)  # of `pts`


def noise(count: int, size: tuple[int, int] = (32, 48), seed: int = 0) -> np.ndarray:
    """Frames that all differ: coloured blocks, uint8 [T, H, W, 3]."""
    height, width = size
    blocks = np.random.default_rng(seed).integers(0, 256, (count, height // 8, width // 8, 3), dtype=np.uint8)
    return blocks.repeat(8, axis=1).repeat(8, axis=2)


def write(
    path: Path,
    frames_T_H_W_3: np.ndarray,
    *,
    pts: Sequence[int] | None = None,
    rate: int | Fraction = 24,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    b_frames: int = 3,
    group: int = 20,
    sample_aspect_ratio: Fraction | None = None,
) -> Path:
    """Write frames with B-frames and few keyframes.

    Args:
        path: the file; its suffix is the format.
        frames_T_H_W_3: uint8 RGB.
        pts: presentation times in milliseconds; evenly spaced if left out.
        rate: frames per second.
        codec: encoder.
        pixel_format: of the file.
        b_frames: frames in a row that refer to later ones.
        group: frames from keyframe to keyframe.
        sample_aspect_ratio: width of a pixel by its height.
    """
    options = {"bf": str(b_frames), "g": str(group), "sc_threshold": "0", "threads": "1"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options if codec == "libx264" else {})
        stream.height, stream.width = frames_T_H_W_3.shape[1:3]
        stream.pix_fmt = pixel_format
        if sample_aspect_ratio is not None:
            stream.codec_context.sample_aspect_ratio = sample_aspect_ratio
        if pts is not None:
            stream.codec_context.time_base = CLOCK
        for index, pixels in enumerate(frames_T_H_W_3):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if pts is not None:
                frame.pts, frame.time_base = pts[index], CLOCK
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def remux(source: Path, target: Path, *options: str, before: Sequence[str] = ()) -> Path:
    """Copy the stream into another file with the ffmpeg program."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *before, "-i", str(source), "-c", "copy", *options]
    subprocess.run([*command, str(target)], check=True, stdin=subprocess.DEVNULL)
    return target


def sequential(source: Path | bytes) -> torch.Tensor:
    """All frames in the plainest way there is, as stored: uint8 [3, T, H, W]."""
    with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source)) as container:
        frames = [torch.from_numpy(f.to_ndarray(format="rgb24")).permute(2, 0, 1) for f in container.decode(video=0)]
    return torch.stack(frames, dim=1)


def by_ffmpeg(path: Path, size: tuple[int, int]) -> torch.Tensor:
    """All frames as the ffmpeg program shows them, upright: uint8 [3, T, H, W]."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-fps_mode", "passthrough"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-sws_flags", "bilinear", "-"]
    raw = subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True).stdout
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(-1, *size, 3).permute(3, 0, 1, 2)


CLIP_LENGTHS = {"a": 12, "b": 9, "c": 5, "d": 7, "e": 20, "f": 11}


def clip_files(folder: Path) -> dict[str, bytes]:
    """Small videos of noise, 32x48, of these lengths."""
    written = {key: write(folder / f"{key}.mp4", noise(n, seed=n)) for key, n in CLIP_LENGTHS.items()}
    return {key: path.read_bytes() for key, path in written.items()}


def whole_picture(**changes: Any) -> ClipWindow:
    """A window as large as those videos."""
    return ClipWindow(**({"num_frames": 5, "height": 32, "width": 48} | changes))

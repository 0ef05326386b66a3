"""Raw video for shards: a file's video stream alone, or its frames encoded again. One frame is in memory at a time."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from torch import Tensor

from cosmos_nemo.media.pictures import VideoError
from cosmos_nemo.media.probe import open_video

BITEXACT = {"fflags": "+bitexact"}  # no dates and versions in the file
CRF = "16"  # visually close to lossless; half the size of what sample scenes are written with
KEYFRAME_INTERVAL = 32  # frames; random windows of the training then decode few frames in vain


def remux(source: Path, target: Path) -> None:
    """Copy the first video stream into a clean mp4: no sound, no other streams, index in front.

    Raises:
        VideoError: it cannot be read, or its codec does not go into an mp4.
    """
    options = {**BITEXACT, "movflags": "+faststart"}
    with open_video(source) as (container, stream):
        with av.open(str(target), mode="w", format="mp4", options=options) as output:
            copy = output.add_stream_from_template(stream)
            for packet in container.demux(stream):
                if packet.dts is None:  # the end
                    continue
                packet.stream = copy
                output.mux(packet)


def encode(frames: Iterator[Tensor], target: Path, *, fps: float) -> None:
    """Write H.264 in an mp4; the bytes depend on the arguments alone.

    Args:
        frames: uint8 RGB, shape [3, H, W] with even H and W, at least one.
        target: the file, which is replaced.
        fps: frames per second.
    """
    # x264 splits its work, and so its output, by the number of threads. Its lookahead (B-frames, weighted prediction,
    # macroblock trees) gave other bytes in one run of ten even with one thread.
    simple = "weightp=0:mbtree=0:rc-lookahead=0"
    options = {"crf": CRF, "preset": "veryfast", "threads": "1", "bf": "0", "x264-params": simple}
    with av.open(str(target), mode="w", format="mp4", options=BITEXACT) as output:
        stream = output.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=options)
        stream.pix_fmt = "yuv420p"
        stream.gop_size = KEYFRAME_INTERVAL
        for index, frame_3_H_W in enumerate(frames):
            if index == 0:
                stream.height, stream.width = frame_3_H_W.shape[-2:]
            rgb_H_W_3 = np.ascontiguousarray(frame_3_H_W.permute(1, 2, 0).numpy())
            output.mux(stream.encode(av.VideoFrame.from_ndarray(rgb_H_W_3, format="rgb24")))
        output.mux(stream.encode())


def even_size(height: int, width: int) -> tuple[int, int]:
    """The largest size that H.264 can hold in a picture of this one.

    Raises:
        VideoError: there is none.
    """
    if height < 2 or width < 2:
        raise VideoError(f"unusable: a picture of {height}x{width} pixels")
    return height - height % 2, width - width % 2

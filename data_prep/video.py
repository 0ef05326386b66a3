"""Writes video files with PyAV; `cosmos_nemo.media.frames` reads them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from cosmos_nemo.files import staged


def write_video(path: Path, frames_T_H_W_3: np.ndarray, *, fps: float) -> None:
    """Write an H.264 mp4 whose bytes depend on the arguments alone, in one step.

    Args:
        path: the file; a complete one appears or none.
        frames_T_H_W_3: uint8 RGB; even height and width.
        fps: frames per second.
    """
    _, height, width, _ = frames_T_H_W_3.shape
    exact = {"fflags": "+bitexact"}
    with staged(path, overwrite=True) as file, av.open(str(file), mode="w", format="mp4", options=exact) as container:
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

"""Make raw video for shards: copy a file's video stream alone, or encode its frames again, one in memory at a time."""

from collections.abc import Iterable
from pathlib import Path

import av
from torch import Tensor

from cosmos_nemo.media.pictures import Size
from cosmos_nemo.media.probe import open_video
from cosmos_nemo.media.writing import BITEXACT, Encoding, encode_to

# Visually close to lossless. With a keyframe every 32 frames, training decodes few frames that it does not show.
ENCODING = Encoding(crf=16, preset="veryfast", keyframe_interval=32, reproducible=True)


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


def encode(frames: Iterable[Tensor], target: Path, *, size: Size, fps: float) -> None:
    """Write H.264 in an mp4; the bytes depend on the arguments alone.

    Args:
        frames: uint8 RGB, shape [3, H, W].
        target: the file, which is replaced.
        size: height and width of the frames, even.
        fps: frames per second.
    """
    with encode_to(target, size=size, fps=fps, encoding=ENCODING) as append:
        for frame_3_H_W in frames:
            append(frame_3_H_W[None])

"""Write the views of a generated video beside it: the strip and the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cosmos_nemo.media.comparison import write_comparison
from cosmos_nemo.media.strip import StripRow, write_strip


def write_views(
    rows: Sequence[StripRow], *, num_frames: int, fps: float, strip: Path | None, columns: int, comparison: Path | None
) -> list[Path]:
    """Write what the user asked for.

    Args:
        rows: input, generated and true frames.
        num_frames: length of the generated video.
        fps: frames per second.
        strip: pNG to write, or None.
        columns: frames in the strip.
        comparison: mp4 to write, or None.

    Returns:
        the written paths.
    """
    paths = []
    if strip is not None:
        paths.append(write_strip(strip, rows, num_frames=num_frames, fps=fps, columns=columns))
    if comparison is not None:
        paths.append(write_comparison(comparison, rows, num_frames=num_frames, fps=fps))
    return paths

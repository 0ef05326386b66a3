"""What is cut out of a video file: a window in time and space."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from cosmos_nemo.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ClipWindow:
    """What is cut out of a video. The defaults are those of the published tokenizer post-training."""

    num_frames: int = 49
    """Frames of a clip."""
    height: int = 256
    """Pixels of a clip."""
    width: int = 256
    """Pixels of a clip."""
    stride: int = 1
    """Frames of the file from one frame of the clip to the next."""
    time: Literal["random", "centre", "start"] = "random"
    """Where in the file a clip starts."""
    space: Literal["random", "centre", "cover", "stretch"] = "random"
    """`random` and `centre` cut the size out of the picture. The others make the whole picture that size: `cover`
    scales it to cover the size and cuts off what is left over on both sides, `stretch` gives it another shape."""
    resize_short_side: int | None = None
    """Pixels of the shorter side after a resize that comes before cutting; None leaves the picture as it is."""
    resize_probability: float = 1.0
    """How often that resize is done; 0.9 in the published training from scratch."""
    flip_probability: float = 0.0
    """How often left and right change places; 0.5 in the published training from scratch."""
    reverse_probability: float = 0.0
    """How often a clip runs backwards; 0.5 in the published training from scratch."""

    def __post_init__(self) -> None:
        """Reject what would not work.

        Raises:
            UserError: names the field.
        """
        for name in ("num_frames", "height", "width", "stride"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} of a clip: use 1 or more.")
        for name in ("resize_probability", "flip_probability", "reverse_probability"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"{name}={getattr(self, name)} of a clip: use a value from 0 to 1.")
        if self.time not in ("random", "centre", "start"):
            raise UserError(f"time={self.time!r} of a clip: use random, centre or start.")
        if self.space not in ("random", "centre", "cover", "stretch"):
            raise UserError(f"space={self.space!r} of a clip: use random, centre, cover or stretch.")

    @property
    def span(self) -> int:
        """Frames of the file from the first to the last one of a clip, both counted."""
        return (self.num_frames - 1) * self.stride + 1

    def still(self) -> ClipWindow:
        """The same sizes from the middle of everything, nothing turned around: what validation looks at."""
        return replace(
            self,
            time="centre",
            space="centre" if self.space == "random" else self.space,
            flip_probability=0.0,
            reverse_probability=0.0,
            resize_probability=float(self.resize_probability >= 0.5),
        )

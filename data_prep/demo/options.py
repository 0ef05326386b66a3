"""Options of `data_prep sample`."""

from dataclasses import dataclass

from cosmos_nemo.errors import UserError


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """Looks of the example dataset."""

    num_videos: int = 32
    """Videos to render."""
    seed: int = 0
    """Seed of the scenes; equal seeds give equal files."""
    num_frames: int = 25  # some more than a training clip of 17, so that its start can vary
    """Frames per video."""
    fps: float = 16.0  # of Cosmos-Predict2's clips
    """Frames per second."""
    height: int = 64
    """Height in pixels."""
    width: int = 96
    """Width in pixels."""

    def __post_init__(self) -> None:
        """Reject what cannot be drawn or encoded."""
        if self.num_videos < 1:
            raise UserError(f"--num-videos {self.num_videos} must be at least 1")
        if self.num_frames < 2:
            raise UserError(f"--num-frames {self.num_frames} shows no motion; use 2 or more")
        if self.fps <= 0:
            raise UserError(f"--fps {self.fps} must be positive")
        if self.height < 16 or self.width < 16 or self.height % 2 or self.width % 2:
            raise UserError(f"--height {self.height} and --width {self.width} must be even numbers, at least 16")

"""What a user may choose whatever the model is, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from cosmos_nemo.errors import UserError

INPUT_FRAMES = ("auto", "first", "last")


@dataclass(kw_only=True)
class CommonOptions:
    """Choices that every family of models has. A None takes the training run's value, or the published default."""

    checkpoint: Path
    """Run folder, its `checkpoints`, an `iter_*` folder, or published weights in any layout."""
    output: Path
    """File to write. Replaced if it exists."""
    truth: Path | None = None
    """The real video (or image), only shown in the strip and the comparison."""
    strip: Path | None = None
    """PNG to write with input, generated and true frames side by side."""
    comparison: Path | None = None
    """mp4 to write that plays the same rows side by side; videos only."""
    strip_frames: int = 8
    """Columns of the strip."""
    input_frames: str = "auto"
    """Which frames of an input video are kept: its `last` ones, to continue it as the published pipelines do, or its
    `first` ones. `auto`: the last ones, unless `truth` is the same video, whose beginning can be compared only."""
    seed: int = 0
    """Seed of all that is drawn."""
    tokenizer: Path | None = None
    """Video tokenizer; None: the one that encoded the training data."""
    text_encoder: Path | None = None
    """T5 encoder; None: the one that encoded the training data."""
    height: int | None = None
    """Pixels, a multiple of 16."""
    width: int | None = None
    """Pixels, a multiple of 16."""
    num_frames: int | None = None
    """Pixel frames of the result, those that are given included."""
    fps: float | None = None
    """Frames per second of the written video."""
    ema: bool = False
    """Take the averaged weights."""
    dtype: str | None = None
    """Compute dtype, `float32` or `bfloat16`; None: bfloat16 on a GPU, float32 on a CPU."""
    tensor_model_parallel_size: int | None = None
    """Under torchrun: ranks that share the weights; None: all there are."""

    def __post_init__(self) -> None:
        """Reject what is wrong whatever the checkpoint says.

        Raises:
            UserError: naming the flag and its legal values.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and field.type in ("Path", "Path | None"):
                setattr(self, field.name, Path(value).expanduser())
        if self.input_frames not in INPUT_FRAMES:
            raise UserError(f"--input-frames {self.input_frames} is unknown; use auto, first or last.")
        if self.strip_frames < 1:
            raise UserError(f"--strip-frames {self.strip_frames} must be at least 1.")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"--seed {self.seed} must be at least 0 and below 2^32.")
        if self.fps is not None and self.fps <= 0:
            raise UserError(f"--fps {self.fps} must be positive.")
        require_file("truth", self.truth)

    def takes_first_frames(self, input: Path | None) -> bool:
        """Whether the first frames of an input video are kept, not the last."""
        if self.input_frames == "auto" and input is not None and self.truth is not None:
            return input.samefile(self.truth)
        return self.input_frames == "first"


@dataclass(frozen=True, kw_only=True)
class GenerateResult:
    """What was generated."""

    paths: tuple[Path, ...]
    """Files written: each video or image, then its strip and comparison; empty on ranks that write nothing."""
    seconds: float
    """Wall time from loading the checkpoint to the last file."""


def require_file(name: str, path: Path | None) -> None:
    """Raise if a file was named that is not there.

    Raises:
        UserError: naming the flag.
    """
    if path is not None and not path.is_file():
        raise UserError(f"--{name.replace('_', '-')} {path} does not exist.")


def require_multiple(name: str, size: int, multiple: int) -> None:
    """Raise if a size in pixels does not fit the tokenizer and the network.

    Raises:
        UserError: naming the flag and the nearest legal values.
    """
    if size < multiple or size % multiple:
        below = max(1, size // multiple) * multiple
        raise UserError(f"--{name} {size} is not a multiple of {multiple}; use {below} or {below + multiple}.")

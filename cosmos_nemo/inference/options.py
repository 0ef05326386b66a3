"""Options of generation with any model, and the result of generation."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

from cosmos_nemo.errors import UserError
from cosmos_nemo.options import flag

INPUT_FRAMES = ("auto", "first", "last")


@dataclass(kw_only=True)
class CommonOptions:
    """Options of every model. None means the value of the training run, or else the published default."""

    checkpoint: Path
    """Run folder, one of its iter_* folders, or published weights in any layout."""
    output: Path
    """The .mp4 (or .png for an image) to write, replaced if it exists; for several inputs a folder."""
    prompt: str | None = None
    """What should be seen, in words."""
    prompt_file: Path | None = None
    """Text file that holds the prompt."""
    seed: int = 0
    """Seed of everything that is drawn at random."""
    truth: Path | None = None
    """The real video (or image), shown in the strip and the comparison."""
    strip: Path | None = None
    """Also write a PNG with input, generated and true frames side by side."""
    strip_frames: int = 8
    """Frames in the strip."""
    comparison: Path | None = None
    """Also write an mp4 that plays the same side by side."""
    input_frames: str = "auto"
    """Frames of an input video to keep: its last ones, to continue it, or its first ones; auto keeps the last ones,
    unless the input is also --truth."""
    tokenizer: Path | None = None
    """Video tokenizer; if omitted, the one of the training data."""
    text_encoder: Path | None = None
    """T5 encoder; if omitted, the one of the training data."""
    height: int | None = None
    """Height in pixels, a multiple of 16; if omitted, that of the training data."""
    width: int | None = None
    """Width in pixels, a multiple of 16; if omitted, that of the training data."""
    num_frames: int | None = None
    """Frames of the result, the given ones included: 4k+1 with Wan, 8k+1 with Cosmos tokenizers; if omitted, as many
    as in the training data."""
    fps: float | None = None
    """Frames per second of the written video; if omitted, those of the training data."""
    ema: bool = False
    """Use the averaged weights."""
    dtype: str | None = None
    """Number format of weights and arithmetic, float32 or bfloat16; if omitted, bfloat16 on a GPU, float32 on a CPU."""
    tensor_model_parallel_size: int | None = None
    """Ranks that share the weights, under torchrun; if omitted, all there are."""

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
        self._read_prompt()

    def _read_prompt(self) -> None:
        """Take the prompt from its file, and refuse a prompt that is the name of a file."""
        if self.prompt is not None and os.path.isfile(self.prompt):
            raise UserError(f"--prompt {self.prompt} is a file; give --prompt-file {self.prompt} to use its text.")
        if self.prompt_file is None:
            return
        if self.prompt is not None:
            raise UserError("--prompt and --prompt-file are both given; omit one of them.")
        require_file("prompt_file", self.prompt_file)
        try:
            self.prompt = self.prompt_file.read_text(encoding="utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise UserError(f"--prompt-file {self.prompt_file} is not a text file in UTF-8.") from error
        if not self.prompt:
            raise UserError(f"--prompt-file {self.prompt_file} is empty; write the prompt into it.")

    def takes_first_frames(self, input: Path | None) -> bool:
        """Return whether the first frames of an input video are kept instead of the last."""
        if self.input_frames == "auto" and input is not None and self.truth is not None:
            return input.samefile(self.truth)
        return self.input_frames == "first"


@dataclass(frozen=True, kw_only=True)
class GenerateResult:
    """Result of a generation."""

    paths: tuple[Path, ...]
    """Files written: each video or image, then its strip and comparison; empty on ranks that write nothing."""
    seconds: float
    """Wall time from loading the checkpoint to the last file."""


def require_file(name: str, path: Path | None) -> None:
    """Raise if the user named a file that does not exist.

    Raises:
        UserError: naming the flag.
    """
    if path is not None and not path.is_file():
        raise UserError(f"{flag(name)} {path} does not exist.")


def require_multiple(name: str, size: int, multiple: int) -> None:
    """Raise if a size in pixels does not suit the tokenizer and the network.

    Raises:
        UserError: naming the flag and the nearest legal values.
    """
    if size < multiple or size % multiple:
        below = max(1, size // multiple) * multiple
        raise UserError(f"--{name} {size} is not a multiple of {multiple}; use {below} or {below + multiple}.")

"""What a user may choose when generating, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cosmos_nemo.errors import UserError
from cosmos_nemo.inference.conditioning import NUM_CONDITIONAL_FRAMES
from cosmos_nemo.inference.video_io import IMAGE_SUFFIXES

VIDEO2WORLD, TEXT2IMAGE = "video2world", "text2image"
TASKS = (VIDEO2WORLD, TEXT2IMAGE)

DEFAULT_GUIDANCE = {VIDEO2WORLD: 7.0, TEXT2IMAGE: 4.0}
"""Guidance g in x0 = cond + g (cond - uncond); g = 0 is none. Source: the published pipelines."""

SIZE_MULTIPLE = 16
"""Height and width in pixels must divide by this: 8 of the tokenizer times 2 of a patch."""


@dataclass(kw_only=True)
class GenerateOptions:
    """One generation. A None takes the training run's value, or the published default of the task."""

    checkpoint: Path
    """Run folder, its `checkpoints`, an `iter_*` folder, or published `.pt` / `.safetensors` / diffusers folder."""
    prompt: str
    """What should be seen; required."""
    output: Path
    """File to write: `.mp4` for Video2World, an image for Text2Image. Replaced if it exists."""
    input: Path | None = None
    """Image or video that the generated video continues; Video2World only, and required there."""
    negative_prompt: str | None = None
    """What should not be seen. None: the published one for Video2World, nothing for Text2Image. Empty: Video2World is
    not guided at all, Text2Image is guided away from a zero text embedding, as in the published pipelines."""
    truth: Path | None = None
    """The real video (or image), only shown in the strip and the comparison."""
    strip: Path | None = None
    """PNG to write with input, generated and true frames side by side."""
    comparison: Path | None = None
    """mp4 to write that plays the same rows side by side; Video2World only."""
    strip_frames: int = 8
    """Columns of the strip."""
    num_steps: int = 35
    """Sampler steps; each costs two network passes with guidance, one without."""
    guidance: float | None = None
    """g; None: 7 for Video2World, 4 for Text2Image."""
    num_conditional_frames: int = 1
    """Pixel frames of the input that are kept: 1 or 5."""
    input_frames: str = "auto"
    """Which frames of an input video are kept: its `last` ones, to continue it as the published pipelines do, or its
    `first` ones. `auto`: the last ones, unless `truth` is the same video, whose beginning can be compared only."""
    seed: int = 0
    """Seed of the initial noise."""
    vae: Path | None = None
    """Video tokenizer; None: the one that encoded the training data."""
    text_encoder: Path | None = None
    """T5 encoder; None: the one that encoded the training data."""
    task: str = "auto"
    """`video2world` or `text2image`; `auto` asks the checkpoint."""
    height: int | None = None
    """Pixels, a multiple of 16."""
    width: int | None = None
    """Pixels, a multiple of 16."""
    num_frames: int | None = None
    """Pixel frames, 4 k + 1."""
    fps: float | None = None
    """Frames per second of the written video."""
    ema: bool = False
    """Take the averaged weights."""
    dtype: str | None = None
    """Compute dtype, `float32` or `bfloat16`; None: bfloat16 on a GPU, float32 on a CPU."""
    tensor_model_parallel_size: int | None = None
    """Under torchrun: ranks that share the weights; None: all that context parallelism leaves."""
    context_parallel_size: int = 1
    """Under torchrun: ranks that share the tokens of the video."""

    def __post_init__(self) -> None:
        """Reject what is wrong whatever the checkpoint says.

        Raises:
            UserError: naming the flag and its legal values.
        """
        for name in ("checkpoint", "output", "input", "truth", "strip", "comparison", "vae", "text_encoder"):
            value = getattr(self, name)
            if value is not None:
                setattr(self, name, Path(value).expanduser())
        if not self.prompt or not self.prompt.strip():
            raise UserError("The prompt is empty; say what should be seen with --prompt.")
        if self.task not in ("auto", *TASKS):
            raise UserError(f"--task {self.task} is unknown; use auto, {' or '.join(TASKS)}.")
        if self.num_conditional_frames not in NUM_CONDITIONAL_FRAMES:
            raise UserError(f"--num-conditional-frames {self.num_conditional_frames} is not possible; use 1 or 5.")
        if self.input_frames not in ("auto", "first", "last"):
            raise UserError(f"--input-frames {self.input_frames} is unknown; use auto, first or last.")
        if self.num_steps < 1:
            raise UserError(f"--num-steps {self.num_steps} must be at least 1; the published value is 35.")
        if self.strip_frames < 1:
            raise UserError(f"--strip-frames {self.strip_frames} must be at least 1.")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"--seed {self.seed} must be at least 0 and below 2^32.")
        if self.fps is not None and self.fps <= 0:
            raise UserError(f"--fps {self.fps} must be positive.")
        for name in ("input", "truth"):
            path = getattr(self, name)
            if path is not None and not path.is_file():
                raise UserError(f"--{name} {path} does not exist.")

    @property
    def takes_first_frames(self) -> bool:
        """Whether the first frames of an input video are kept, not the last."""
        if self.input_frames == "auto" and self.input is not None and self.truth is not None:
            return self.input.samefile(self.truth)
        return self.input_frames == "first"


@dataclass(frozen=True, kw_only=True)
class GenerateResult:
    """What was generated."""

    paths: tuple[Path, ...]
    """Files written: the video or image, then the strip if one was asked for; empty on ranks that write nothing."""
    seconds: float
    """Wall time from loading the checkpoint to the last file."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The options with every blank filled in."""

    task: str
    height: int
    width: int
    num_frames: int
    fps: float
    guidance: float
    negative_prompt: str
    vae: Path
    text_encoder: Path
    text_length: int
    sigma_conditional: float

    def __post_init__(self) -> None:
        """Check sizes.

        Raises:
            UserError: naming the flag and the nearest legal values.
        """
        for name in ("height", "width"):
            size = getattr(self, name)
            if size < SIZE_MULTIPLE or size % SIZE_MULTIPLE:
                below = max(1, size // SIZE_MULTIPLE) * SIZE_MULTIPLE
                raise UserError(
                    f"--{name} {size} is not a multiple of {SIZE_MULTIPLE}; use {below} or {below + SIZE_MULTIPLE}."
                )


def check_output(output: Path, task: str) -> None:
    """Raise if the output's suffix does not suit the task.

    Raises:
        UserError: a video cannot be an image file, or the reverse.
    """
    is_image = output.suffix.lower() in IMAGE_SUFFIXES
    if task == TEXT2IMAGE and not is_image:
        raise UserError(f"--output {output}: Text2Image makes an image; end the name with .png.")
    if task == VIDEO2WORLD and output.suffix.lower() != ".mp4":
        raise UserError(f"--output {output}: Video2World makes a video; end the name with .mp4.")

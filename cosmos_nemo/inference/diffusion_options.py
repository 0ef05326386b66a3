"""What a user may choose when generating with a diffusion model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmos_nemo.diffusion.denoising import Objective
from cosmos_nemo.errors import UserError
from cosmos_nemo.inference.options import CommonOptions, require_file, require_multiple
from cosmos_nemo.media.suffixes import is_image

VIDEO2WORLD, TEXT2IMAGE = "video2world", "text2image"
TASKS = (VIDEO2WORLD, TEXT2IMAGE)

SIZE_MULTIPLE = 16
"""Height and width in pixels must divide by this: 8 of the tokenizer times 2 of a patch."""


@dataclass(kw_only=True)
class DiffusionOptions(CommonOptions):
    """One generation with a diffusion model. A None takes the training run's value, or the task's published default."""

    prompt: str
    """What should be seen; required."""
    input: Path | None = None
    """Image or video that the generated video continues; Video2World only, and required there."""
    negative_prompt: str | None = None
    """What should not be seen. None: the published one for Video2World, nothing for Text2Image. Empty: Video2World is
    not guided at all, Text2Image is guided away from a zero text embedding, as in the published pipelines."""
    num_steps: int = 35
    """Sampler steps; each costs two network passes with guidance, one without."""
    sampler: str | None = None
    """Integrator; None: the published one, `2ab` for Predict2, which has `euler`, too."""
    guidance: float | None = None
    """g; None: 7 for Video2World, 4 for Text2Image."""
    num_conditional_frames: int = 1
    """Pixel frames of the input that are kept: 1, or those of two latent frames (5 with Wan 2.1, 9 with CV8x8x8)."""
    task: str = "auto"
    """`video2world` or `text2image`; `auto` asks the checkpoint."""
    context_parallel_size: int = 1
    """Under torchrun: ranks that share the tokens of the video."""

    def __post_init__(self) -> None:
        """Reject what is wrong whatever the checkpoint says.

        Raises:
            UserError: naming the flag and its legal values.
        """
        super().__post_init__()
        if not self.prompt or not self.prompt.strip():
            raise UserError("The prompt is empty; say what should be seen with --prompt.")
        if self.task not in ("auto", *TASKS):
            raise UserError(f"--task {self.task} is unknown; use auto, {' or '.join(TASKS)}.")
        if self.num_conditional_frames < 1:
            raise UserError(f"--num-conditional-frames {self.num_conditional_frames} must be at least 1.")
        if self.num_steps < 1:
            raise UserError(f"--num-steps {self.num_steps} must be at least 1; the published value is 35.")
        require_file("input", self.input)


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
    tokenizer: Path
    text_encoder: Path
    text_length: int
    objective: Objective[Any]

    def __post_init__(self) -> None:
        """Check sizes.

        Raises:
            UserError: naming the flag and the nearest legal values.
        """
        require_multiple("height", self.height, SIZE_MULTIPLE)
        require_multiple("width", self.width, SIZE_MULTIPLE)


def check_output(output: Path, task: str) -> None:
    """Raise if the output's suffix does not suit the task.

    Raises:
        UserError: a video cannot be an image file, or the reverse.
    """
    if task == TEXT2IMAGE and not is_image(output.name):
        raise UserError(f"--output {output}: Text2Image makes an image; end the name with .png.")
    if task == VIDEO2WORLD and output.suffix.lower() != ".mp4":
        raise UserError(f"--output {output}: Video2World makes a video; end the name with .mp4.")

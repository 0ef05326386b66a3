"""Options of generation with a diffusion model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cosmos_nemo.errors import UserError
from cosmos_nemo.inference.options import CommonOptions, require_file
from cosmos_nemo.media.suffixes import is_image

VIDEO2WORLD, TEXT2IMAGE = "video2world", "text2image"
TASKS = (VIDEO2WORLD, TEXT2IMAGE)

SIZE_MULTIPLE = 16
"""Height and width in pixels must divide by this: 8 of the tokenizer times 2 of a patch."""


@dataclass(kw_only=True)
class DiffusionOptions(CommonOptions):
    """One generation with a diffusion model. None means the training run's value, or else the published default."""

    input: Path | None = None
    """Image or video that the generated video continues; Video2World only, and required there."""
    negative_prompt: str | None = None
    """What should not be seen; if omitted, the published words for video, and nothing for images. An empty text turns
    guidance off for video, and for images guides away from an embedding of zeros, as the published pipelines do."""
    num_steps: int = 35
    """Steps of the sampler; each costs two passes of the network with guidance, one without."""
    sampler: str | None = None
    """Integrator, 2ab or euler; if omitted, the published one, 2ab."""
    guidance: float | None = None
    """Strength of guidance, 0 for none; if omitted, 7 for video and 4 for images."""
    num_conditional_frames: int = 1
    """Frames kept from the input: 1, 5 (Wan) or 9 (CV8x8x8)."""
    task: str = "auto"
    """What the checkpoint must be: video2world or text2image; auto accepts both."""
    context_parallel_size: int = 1
    """Ranks that share the tokens of the video, under torchrun."""

    def __post_init__(self) -> None:
        """Reject what is wrong whatever the checkpoint says.

        Raises:
            UserError: naming the flag and its legal values.
        """
        super().__post_init__()
        if not self.prompt or not self.prompt.strip():
            raise UserError("The prompt is missing; say what should be seen with --prompt or --prompt-file.")
        if self.task not in ("auto", *TASKS):
            raise UserError(f"--task {self.task} is unknown; use auto, {' or '.join(TASKS)}.")
        if self.num_conditional_frames < 1:
            raise UserError(f"--num-conditional-frames {self.num_conditional_frames} must be at least 1.")
        if self.num_steps < 1:
            raise UserError(f"--num-steps {self.num_steps} must be at least 1; the published value is 35.")
        require_file("input", self.input)


def check_output(output: Path, task: str) -> None:
    """Raise if the output's suffix does not suit the task.

    Raises:
        UserError: a video cannot be an image file, or the reverse.
    """
    if task == TEXT2IMAGE and not is_image(output.name):
        raise UserError(f"--output {output}: Text2Image makes an image; end the name with .png.")
    if task == VIDEO2WORLD and output.suffix.lower() != ".mp4":
        raise UserError(f"--output {output}: Video2World makes a video; end the name with .mp4.")

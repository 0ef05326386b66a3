"""Fills in what the options of a diffusion model leave open, from its checkpoint."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmos_nemo.diffusion import objective_from_json
from cosmos_nemo.diffusion.denoising import Objective
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.family import Published
from cosmos_nemo.inference.diffusion_options import SIZE_MULTIPLE, TEXT2IMAGE, DiffusionOptions
from cosmos_nemo.inference.options import require_multiple
from cosmos_nemo.inference.source import Defaults, Source, run_values

logger = logging.getLogger(__name__)


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


def make_plan(options: DiffusionOptions, source: Source) -> Plan:
    """Fill in what the options leave open.

    Raises:
        UserError: the task contradicts the checkpoint, an encoder is unknown, or a size is not possible.
    """
    task = source.architecture.task
    if options.task not in ("auto", task):
        raise UserError(
            f"--task {options.task}: the checkpoint is a {task} network; use --task auto or another checkpoint."
        )
    published = source.architecture.family.published(task, source.path.name)
    objective = _objective(source, task)
    objective.sampler_name(options.sampler)  # an unknown one is refused before anything is loaded
    negative = published.negative_prompt() if options.negative_prompt is None else options.negative_prompt
    defaults = _defaults(source, published)
    height, width = defaults.chosen("height", options.height), defaults.chosen("width", options.width)
    num_frames = 1 if task == TEXT2IMAGE else defaults.chosen("num_frames", options.num_frames)
    # Clips of several frame rates have no common one; the models do not see it anyway (no fps modulation).
    fps = options.fps or defaults.values.get("fps") or published.fps
    if defaults.assumed and None in (options.height, options.width, options.num_frames, options.fps):
        logger.warning(
            "the checkpoint does not say what it was trained on; assuming %dx%d (height x width), %d frames at %g fps: "
            "give --height, --width, --num-frames and --fps if that is wrong",
            *(height, width, num_frames, fps),
        )
    return Plan(
        task=task,
        height=int(height),
        width=int(width),
        num_frames=int(num_frames),
        fps=float(fps),
        guidance=published.guidance if options.guidance is None else options.guidance,
        negative_prompt=negative.strip(),
        tokenizer=defaults.encoder("tokenizer", options.tokenizer),
        text_encoder=defaults.encoder("text_encoder", options.text_encoder),
        text_length=int(defaults.values.get("text_length", published.text_length)),
        objective=objective,
    )


def _objective(source: Source, task: str) -> Objective[Any]:
    """Return what the network was trained with: the run's objective, or the published one."""
    section = source.run and source.run.objective
    return objective_from_json(section) if section else source.architecture.family.published_objective(task)


def _defaults(source: Source, published: Published) -> Defaults:
    """What the checkpoint says about sizes and encoders; of a published file, what such networks were made for."""
    if source.training is not None:
        return Defaults(values=run_values(source.run))
    return Defaults(values=published.data(), assumed=published.assumed)

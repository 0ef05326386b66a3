"""Fills in what the options of a diffusion model leave open, from its checkpoint."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from cosmos_nemo.checkpoints.architecture import task_of
from cosmos_nemo.diffusion import objective_from_json
from cosmos_nemo.diffusion.denoising import Objective
from cosmos_nemo.diffusion.predict2 import Predict2Objective
from cosmos_nemo.errors import UserError
from cosmos_nemo.inference.diffusion_options import (
    DEFAULT_GUIDANCE,
    TEXT2IMAGE,
    VIDEO2WORLD,
    DiffusionOptions,
    Plan,
)
from cosmos_nemo.inference.source import Defaults, Source, run_values

logger = logging.getLogger(__name__)

PUBLISHED_TEXT_LENGTH = 512
"""Text positions of the published models, zero padding included; the models attend to the padding."""


PUBLISHED_FPS = 16.0
"""Frame rate of the published Video2World models."""


def published_negative_prompt() -> str:
    """Negative prompt of the published Video2World pipeline: other words would give other videos.

    Taken from diffusers' pipeline of the same model rather than repeated here.
    """
    from diffusers.pipelines.cosmos import pipeline_cosmos2_video2world

    return str(pipeline_cosmos2_video2world.DEFAULT_NEGATIVE_PROMPT)


def make_plan(options: DiffusionOptions, source: Source) -> Plan:
    """Fill in what the options leave open.

    Raises:
        UserError: the task contradicts the checkpoint, an encoder is unknown, or a size is not possible.
    """
    task = task_of(source.architecture)
    if options.task not in ("auto", task):
        raise UserError(
            f"--task {options.task}: the checkpoint is a {task} network; use --task auto or another checkpoint."
        )
    objective = _objective(source, task)
    objective.sampler_name(options.sampler)  # an unknown one is refused before anything is loaded
    negative = options.negative_prompt
    if negative is None:
        negative = published_negative_prompt() if task == VIDEO2WORLD else ""
    defaults = _defaults(source, task)
    height, width = defaults.chosen("height", options.height), defaults.chosen("width", options.width)
    num_frames = 1 if task == TEXT2IMAGE else defaults.chosen("num_frames", options.num_frames)
    # Clips of several frame rates have no common one; the models do not see it anyway (no fps modulation).
    fps = options.fps or defaults.values.get("fps") or PUBLISHED_FPS
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
        guidance=DEFAULT_GUIDANCE[task] if options.guidance is None else options.guidance,
        negative_prompt=negative.strip(),
        tokenizer=defaults.encoder("tokenizer", options.tokenizer),
        text_encoder=defaults.encoder("text_encoder", options.text_encoder),
        text_length=int(defaults.values.get("text_length", PUBLISHED_TEXT_LENGTH)),
        objective=objective,
    )


def _objective(source: Source, task: str) -> Objective[Any]:
    """Return what the network was trained with: the run's objective, or the published one."""
    section = source.run.get("objective")
    return objective_from_json(section) if section else Predict2Objective.published(task)


def _defaults(source: Source, task: str) -> Defaults:
    """What the checkpoint says about sizes and encoders."""
    if source.training is not None:
        return Defaults(values=run_values(source.run))
    return _published_defaults(source.path, task)


def _published_defaults(path: Path, task: str) -> Defaults:
    """Sizes of the published models; a published file's name says which, as in model-480p-10fps.pt."""
    if task == TEXT2IMAGE:
        return Defaults(values={"height": 768, "width": 1360})
    lines, rate = re.search(r"(480|720)p", path.name), re.search(r"(10|16)fps", path.name)
    low, slow = lines is not None and lines[1] == "480", rate is not None and rate[1] == "10"
    defaults: dict[str, Any] = {"height": 432, "width": 768} if low else {"height": 704, "width": 1280}
    defaults |= {"num_frames": 61, "fps": 10.0} if slow else {"num_frames": 93, "fps": PUBLISHED_FPS}
    return Defaults(values=defaults, assumed=lines is None or rate is None)

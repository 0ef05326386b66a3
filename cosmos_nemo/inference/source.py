"""What a checkpoint says about generating with it, and the model it holds."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cosmos_nemo.checkpoints.architecture import build_model, run_architecture, task_of
from cosmos_nemo.checkpoints.convert import load_published_into
from cosmos_nemo.checkpoints.layout import CheckpointInfo, find_checkpoint, is_training_checkpoint
from cosmos_nemo.checkpoints.megatron import load_training_checkpoint
from cosmos_nemo.checkpoints.published import read_published
from cosmos_nemo.checkpoints.shapes import published_architecture
from cosmos_nemo.errors import UserError
from cosmos_nemo.inference.options import (
    DEFAULT_GUIDANCE,
    TEXT2IMAGE,
    VIDEO2WORLD,
    GenerateOptions,
    Plan,
)

if TYPE_CHECKING:
    from cosmos_nemo.models.dit.model import DiT

logger = logging.getLogger(__name__)

PUBLISHED_TEXT_LENGTH = 512
"""Text positions of the published models, zero padding included; the models attend to the padding."""


PUBLISHED_FPS = 16.0
"""Frame rate of the published Video2World models."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A checkpoint to generate from.

    Attributes:
        architecture: network-describing config fields.
        defaults: task, num_frames, height, width, fps, vae, text_encoder, text_length, sigma_conditional, as far as
            the checkpoint says.
        training: the training checkpoint, or None for published weights.
        state: published weights, or None for a training checkpoint.
        ema: of a training checkpoint, take the averaged weights.
    """

    architecture: Mapping[str, Any]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    training: CheckpointInfo | None = None
    state: Mapping[str, Tensor] | None = None
    ema: bool = False

    def load(self, *, dtype: torch.dtype, device: torch.device) -> DiT:
        """Build the network in the current model-parallel world and load its weights.

        Raises:
            UserError: the weights do not fit, with every wrong key.
        """
        model = build_model(self.architecture, dtype=dtype, device=device)
        if self.training is not None:
            load_training_checkpoint(model, self.training, ema=self.ema)
        else:
            load_published_into(model, self.state or {})
        return model


def open_source(path: Path, *, ema: bool = False) -> Source:
    """Find out what a checkpoint is, without loading its weights.

    Args:
        path: a training checkpoint at any level of its folders, or published weights.
        ema: take the averaged weights.

    Raises:
        UserError: nothing there (what is there is listed), or damaged.
    """
    if is_training_checkpoint(path):
        info = find_checkpoint(path)
        architecture = run_architecture(info)
        return Source(architecture=architecture, defaults=_run_defaults(info.run), training=info, ema=ema)
    state = read_published(path, ema=ema)
    architecture = published_architecture(state)
    return Source(architecture=architecture, defaults=_published_defaults(path, task_of(architecture)), state=state)


def published_negative_prompt() -> str:
    """Negative prompt of the published Video2World pipeline: other words would give other videos.

    Taken from diffusers' pipeline of the same model rather than repeated here.
    """
    from diffusers.pipelines.cosmos import pipeline_cosmos2_video2world

    return str(pipeline_cosmos2_video2world.DEFAULT_NEGATIVE_PROMPT)


def make_plan(options: GenerateOptions, source: Source) -> Plan:
    """Fill in what the options leave open.

    Raises:
        UserError: the task contradicts the checkpoint, an encoder is unknown, or a size is not possible.
    """
    task = task_of(source.architecture)
    if options.task not in ("auto", task):
        raise UserError(
            f"--task {options.task}: the checkpoint is a {task} network; use --task auto or another checkpoint."
        )
    negative = options.negative_prompt
    if negative is None:
        negative = published_negative_prompt() if task == VIDEO2WORLD else ""
    height, width = _chosen(options, source, "height"), _chosen(options, source, "width")
    num_frames = 1 if task == TEXT2IMAGE else _chosen(options, source, "num_frames")
    # Clips of several frame rates have no common one; the models do not see it anyway (no fps modulation).
    fps = options.fps or source.defaults.get("fps") or PUBLISHED_FPS
    if source.defaults.get("assumed") and None in (options.height, options.width, options.num_frames, options.fps):
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
        vae=_encoder(options, source, "vae", "--vae"),
        text_encoder=_encoder(options, source, "text_encoder", "--text-encoder"),
        text_length=int(source.defaults.get("text_length", PUBLISHED_TEXT_LENGTH)),
        sigma_conditional=float(source.defaults.get("sigma_conditional", 1e-4)),
    )


def _chosen(options: GenerateOptions, source: Source, name: str) -> Any:
    """The user's value, else the checkpoint's."""
    value = getattr(options, name)
    value = source.defaults.get(name) if value is None else value
    if value is None:
        raise UserError(f"The checkpoint does not say its {name}; give --{name.replace('_', '-')}.")
    return value


def _encoder(options: GenerateOptions, source: Source, name: str, flag: str) -> Path:
    """Path of an encoder, existing."""
    given = getattr(options, name)
    path = given or source.defaults.get(name)
    if path is None:
        raise UserError(f"The checkpoint does not say which {name.replace('_', ' ')} belongs to it; give {flag} PATH.")
    path = Path(path)
    if not path.exists():
        reason = "does not exist" if given else "was used in training but is not there any more"
        raise UserError(f"{flag} {path} {reason}; give {flag} PATH.")
    return path


def _run_defaults(run: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults recorded in a training run's run.json (its `data` and `objective` sections)."""
    data, objective = run.get("data") or {}, run.get("objective") or {}
    names = ("num_frames", "height", "width", "fps", "text_length")
    defaults = {name: data[name] for name in names if data.get(name) is not None}
    # Runs of the first version called the video tokenizer "vae".
    references = {"vae": data.get("video_tokenizer", data.get("vae")), "text_encoder": data.get("text_encoder")}
    for name, reference in references.items():
        path = reference.get("path") if isinstance(reference, Mapping) else reference
        if path:
            defaults[name] = path
    if "sigma_conditional" in objective:
        defaults["sigma_conditional"] = objective["sigma_conditional"]
    return defaults


def _published_defaults(path: Path, task: str) -> dict[str, Any]:
    """Sizes of the published models; a published file's name says which, as in model-480p-10fps.pt."""
    if task == TEXT2IMAGE:
        return {"height": 768, "width": 1360}
    lines, rate = re.search(r"(480|720)p", path.name), re.search(r"(10|16)fps", path.name)
    low, slow = lines is not None and lines[1] == "480", rate is not None and rate[1] == "10"
    defaults: dict[str, Any] = {"height": 432, "width": 768} if low else {"height": 704, "width": 1280}
    defaults |= {"num_frames": 61, "fps": 10.0} if slow else {"num_frames": 93, "fps": PUBLISHED_FPS}
    return defaults | {"assumed": lines is None or rate is None}

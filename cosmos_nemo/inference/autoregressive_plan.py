"""Fills in what the options of an autoregressive model leave open, from its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cosmos_nemo.errors import UserError
from cosmos_nemo.inference.autoregressive_options import AutoregressiveOptions
from cosmos_nemo.inference.jobs import Job
from cosmos_nemo.inference.options import require_multiple
from cosmos_nemo.inference.source import Defaults, Source, run_values

TEMPORAL_COMPRESSION, SPATIAL_COMPRESSION = 8, 16
"""Of the DV8x16x16 tokenizer that every network uses."""

Grid = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class AutoregressivePlan:
    """The options with every blank filled in.

    Attributes:
        height, width: pixels.
        num_frames: pixel frames of a video, those given included.
        num_input_frames: pixel frames that are given.
        fps: of the written videos.
        tokenizer: the video tokenizer.
        text_encoder: T5 encoder; None for networks without text.
        text_length: text positions.
    """

    height: int
    width: int
    num_frames: int
    num_input_frames: int
    fps: float
    tokenizer: Path
    text_encoder: Path | None
    text_length: int

    def __post_init__(self) -> None:
        """Check sizes.

        Raises:
            UserError: naming the flag and legal values.
        """
        require_multiple("height", self.height, SPATIAL_COMPRESSION)
        require_multiple("width", self.width, SPATIAL_COMPRESSION)
        chunk, given = TEMPORAL_COMPRESSION, self.num_input_frames
        if self.num_frames % chunk != 1:
            below = max(0, self.num_frames - 1) // chunk * chunk + 1
            raise UserError(f"--num-frames {self.num_frames} is not {chunk} k + 1; use {below} or {below + chunk}.")
        if given % chunk != 1 or given >= self.num_frames:
            legal = ", ".join(map(str, range(1, self.num_frames, chunk)))
            raise UserError(
                f"--num-input-frames {given} is not possible for a video of {self.num_frames} frames; use one of "
                f"{legal or 'none: the video is too short'}."
            )

    @property
    def latent_shape(self) -> Grid:
        """Tokens of a video in time, height and width."""
        frames = 1 + (self.num_frames - 1) // TEMPORAL_COMPRESSION
        return frames, self.height // SPATIAL_COMPRESSION, self.width // SPATIAL_COMPRESSION

    @property
    def num_given_tokens(self) -> int:
        """Tokens of the given frames."""
        _, height, width = self.latent_shape
        return (1 + (self.num_input_frames - 1) // TEMPORAL_COMPRESSION) * height * width


def make_plan(options: AutoregressiveOptions, source: Source, jobs: list[Job]) -> AutoregressivePlan:
    """Fill in what the options leave open.

    Raises:
        UserError: a size is not possible, an encoder is unknown, or a prompt is missing or too many.
    """
    architecture = source.architecture
    published = architecture.family.published(architecture.task, source.path.name)
    defaults = Defaults(values=published.data() | run_values(source.run))
    reads_text = bool(architecture.fields.get("crossattn_emb_channels"))
    for job in jobs:
        if reads_text and not (job.prompt and job.prompt.strip()):
            raise UserError(f"{job.input} has no prompt, which this network reads; give --prompt.")
        if not reads_text and job.prompt:
            raise UserError("This network reads no text; drop --prompt, or use a model such as ar_v2w_5b.")
    return AutoregressivePlan(
        height=int(defaults.chosen("height", options.height)),
        width=int(defaults.chosen("width", options.width)),
        num_frames=int(defaults.chosen("num_frames", options.num_frames)),
        num_input_frames=options.num_input_frames,
        fps=float(defaults.chosen("fps", options.fps)),
        tokenizer=defaults.encoder("tokenizer", options.tokenizer),
        text_encoder=defaults.encoder("text_encoder", options.text_encoder) if reads_text else None,
        text_length=int(defaults.values["text_length"]),
    )

"""A checkpoint to generate from: what it says about itself, and the model it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cosmos_nemo.checkpoints.convert import load_published_into
from cosmos_nemo.checkpoints.megatron import load_training_checkpoint, run_architecture
from cosmos_nemo.checkpoints.published import read_published
from cosmos_nemo.checkpoints.shapes import published_architecture
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.architecture import Architecture
from cosmos_nemo.options import flag
from cosmos_nemo.runs.layout import CheckpointInfo, find_checkpoint, is_training_checkpoint
from cosmos_nemo.runs.record import RunRecord


@dataclass(frozen=True, kw_only=True)
class Source:
    """A checkpoint to generate from.

    Attributes:
        path: what the user named.
        architecture: the network.
        training: the training checkpoint, or None for published weights.
        state: published weights, or None for a training checkpoint.
        ema: whether the averaged weights are meant.
    """

    path: Path
    architecture: Architecture
    training: CheckpointInfo | None = None
    state: Mapping[str, Tensor] | None = None
    ema: bool = False

    @property
    def run(self) -> RunRecord | None:
        """What the training run says about itself; None for published weights."""
        return None if self.training is None else self.training.run

    def load(self, *, dtype: torch.dtype, device: torch.device) -> Any:
        """Build the network in the current model-parallel world and load its weights.

        Raises:
            UserError: the weights do not fit, with every wrong key.
        """
        model = self.architecture.empty_network(dtype=dtype, device=device)
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
        return Source(path=path, architecture=run_architecture(info), training=info, ema=ema)
    state = read_published(path, ema=ema)
    architecture = published_architecture(state)
    architecture.require_known()
    return Source(path=path, architecture=architecture, state=state)


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a checkpoint says about the data it was trained on, to fill in what the user leaves open.

    Attributes:
        values: num_frames, height, width, fps, text_length, tokenizer, text_encoder, as far as they are known.
        assumed: whether they are a guess.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    assumed: bool = False

    def chosen(self, name: str, given: Any) -> Any:
        """The user's value, else the checkpoint's.

        Raises:
            UserError: there is neither.
        """
        value = self.values.get(name) if given is None else given
        if value is None:
            raise UserError(f"The checkpoint does not say its {name}; give {flag(name)}.")
        return value

    def encoder(self, name: str, given: Path | None) -> Path:
        """Path of an encoder, existing.

        Raises:
            UserError: it is not known, or not there.
        """
        path = given or self.values.get(name)
        if path is None:
            words = name.replace("_", " ")
            raise UserError(f"The checkpoint does not say which {words} belongs to it; give {flag(name)} PATH.")
        path = Path(path)
        if not path.exists():
            reason = "does not exist" if given else "was used in training but is not there any more"
            raise UserError(f"{flag(name)} {path} {reason}; give {flag(name)} PATH.")
        return path


def run_values(run: RunRecord | None) -> dict[str, Any]:
    """What a run says about its data, under the names of `Defaults`."""
    if run is None or run.data is None:
        return {}
    data = run.data
    values = {name: getattr(data, name) for name in ("num_frames", "height", "width", "fps", "text_length")}
    values["tokenizer"] = data.video_tokenizer and data.video_tokenizer.path
    values["text_encoder"] = data.text_encoder and data.text_encoder.path
    return {name: value for name, value in values.items() if value is not None}

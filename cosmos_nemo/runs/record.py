"""run.json: what a run says about itself, written once and read by whatever starts from its weights.

Format 2 is `RunRecord`. Files of format 1, as earlier versions wrote them, are brought up to it when they are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cosmos_nemo.data.manifest import EncoderRef
from cosmos_nemo.errors import UserError
from cosmos_nemo.files import read_json, write_json

RUN_FILE = "run.json"
FORMAT = 2


@dataclass(frozen=True, kw_only=True)
class RunData:
    """What generating and exporting must know about the training data. None stands for what differs or is not there."""

    path: str | None = None
    """The data set, absolute."""
    num_frames: int | None = None
    """Pixel frames of a sample."""
    height: int | None = None
    """Pixels."""
    width: int | None = None
    """Pixels."""
    fps: float | None = None
    """Frames per second."""
    latent_shape: tuple[int, ...] | None = None
    """(C, T, H, W) of a sample's latents."""
    token_shape: tuple[int, ...] | None = None
    """(T, H, W) of a sample's token ids."""
    text_width: int | None = None
    """Width of the text embeddings."""
    text_length: int | None = None
    """Text positions, padding included."""
    video_tokenizer: EncoderRef | None = None
    """The video tokenizer that made the samples."""
    text_encoder: EncoderRef | None = None
    """The text encoder that made the embeddings."""
    window: Mapping[str, Any] | None = None
    """What was cut out of raw video."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a run says about itself. None stands for what does not apply, or was not recorded."""

    family: str
    """Name of the family of the network."""
    task: str
    """What the network is for."""
    model: Mapping[str, Any]
    """The fields of the network's config that its weights depend on."""
    recipe: str | None = None
    """Name of the recipe."""
    objective: Mapping[str, Any] | None = None
    """All fields of the training objective; of a tokenizer, its loss."""
    lora: Mapping[str, Any] | None = None
    """All fields of the adapters that are trained instead of the network."""
    averaging: Mapping[str, Any] | None = None
    """`decay` and `rate` of the moving average of the weights."""
    seed: int | None = None
    """Of everything random in training."""
    initial_weights: str | None = None
    """Weights that the run started from."""
    data: RunData | None = None
    """The training data."""
    optimizer: Mapping[str, Any] | None = None
    """Optimizer, batch and length of the run."""
    precision: str | None = None
    """Of training."""
    imported_from: str | None = None
    """Name of the published file that the weights are from, if nothing was trained."""
    ema: bool | None = None
    """Whether the averaged weights of that file were taken."""

    def to_json(self) -> dict[str, Any]:
        """Return the content of run.json; what is None is left out."""
        content: dict[str, Any] = {"format": FORMAT}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                content[field.name] = asdict(value) if isinstance(value, RunData) else value
        plain: dict[str, Any] = json.loads(json.dumps(content))  # tuples become lists, as they do in the file
        return plain

    def write(self, run_dir: Path) -> None:
        """Write run.json into a run's folder in one step."""
        write_json(run_dir / RUN_FILE, self.to_json())

    def model_differences(self, other: RunRecord) -> str:
        """Return how the network of another record, there, differs from this one's, here; empty if it does not."""
        if self.family != other.family:
            return f"family {other.family} there, {self.family} here"
        return differences(other.model, self.model)


def from_json(content: Mapping[str, Any], *, source: str) -> RunRecord:
    """Return the record that a run.json of any format holds.

    Args:
        content: Of the file.
        source: Its path, for messages.

    Raises:
        UserError: It is of a later version, or lacks what every run.json has.
    """
    version = content.get("format", 1)
    if version == 1:
        content = _upgraded(content)
    elif version != FORMAT:
        raise UserError(f"{source} has format {version}, this version reads 1 and {FORMAT}; update cosmos-nemo.")
    given = {name: value for name, value in content.items() if name != "format"}
    _check_keys(RunRecord, given, source)
    for name in ("family", "task", "model"):
        if not given.get(name):
            raise UserError(f"{source} does not say the run's {name}; restore it from the training run.")
    if given.get("data") is not None:
        given["data"] = _data(given["data"], f"{source}, data")
    return RunRecord(**given)


def read_record(run_dir: Path) -> RunRecord | None:
    """Return what a run's folder says about itself; None if there is no run.json.

    Raises:
        UserError: It cannot be read.
    """
    file = run_dir / RUN_FILE
    if not file.is_file():
        return None
    return from_json(read_json(file, "restore it from the training run"), source=str(file))


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Return the entries in which two descriptions differ, in words; entries that one lacks are left out."""
    # Through JSON, because one of the two may have been through it.
    ours, theirs = (json.loads(json.dumps(dict(entries))) for entries in (here, there))
    names = [name for name in ours if name in theirs and theirs[name] != ours[name]]
    return "; ".join(f"{name} {theirs[name]} there, {ours[name]} here" for name in names)


def _data(content: Mapping[str, Any], source: str) -> RunData:
    """Return the section `data`."""
    given = dict(content)
    _check_keys(RunData, given, source)
    for name in ("video_tokenizer", "text_encoder"):
        if given.get(name) is not None:
            given[name] = EncoderRef(path=given[name]["path"], sha256=given[name].get("sha256", ""))
    for name in ("latent_shape", "token_shape"):
        if given.get(name) is not None:
            given[name] = tuple(given[name])
    return RunData(**given)


def _check_keys(kind: type[RunRecord] | type[RunData], given: Mapping[str, Any], source: str) -> None:
    """Raise if there are entries that this version does not know: it could not keep what they promise."""
    unknown = sorted(given.keys() - kind.__dataclass_fields__.keys())
    if unknown:
        raise UserError(f"{source} has entries that this version does not know: {', '.join(unknown)}.")


_FORMER_FAMILIES = {"diffusion": "predict2", "tokenizer": "cosmos_tokenizer"}
"""What format 1 calls families; there was one of each of these kinds."""

_FIRST_TASKS = ("video2world", "text2image")
"""Tasks of the runs from before run.json named a family: all of them are Predict2's."""


def _upgraded(old: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run.json of format 1 as one of format 2.

    Format 1 named the family twice (`family`, `model.family`) or not at all, called the loss of a tokenizer `loss`, the
    weights that a run started from by the setting of its module and, at first, the video tokenizer `vae`.
    """
    model = dict(old.get("model") or {})
    family = model.pop("family", None) or old.get("family")
    if family is None and old.get("task") in _FIRST_TASKS:
        family = "predict2"
    new = {name: old[name] for name in RunRecord.__dataclass_fields__ if name in old}
    new |= {"family": _FORMER_FAMILIES.get(str(family), family), "model": model}
    new["objective"] = old.get("objective") or old.get("loss")
    if new["objective"] and new["family"] == "predict2":
        new["objective"] = {"kind": "predict2", **new["objective"]}  # there was one kind, which was not said
    weights = (old.get(name) for name in ("dit_path", "ar_path", "jit_ckpt_pth"))
    new["initial_weights"] = next(filter(None, weights), None)
    if old.get("data") is not None:
        new["data"] = _upgraded_data(old["data"])
    return new


def _upgraded_data(old: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section `data` of a run.json of format 1 as one of format 2."""
    data = {name: old[name] for name in RunData.__dataclass_fields__ if name in old}
    if "vae" in old:
        data["video_tokenizer"] = old["vae"]
    return data

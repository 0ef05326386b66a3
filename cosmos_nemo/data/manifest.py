"""What a dataset folder holds: the shards, Energon's ``.nv-meta`` and ``manifest.json``, which is written last."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cosmos_nemo.data.schema import READABLE_VERSIONS, SAMPLE_TYPES, SCHEMA_VERSION
from cosmos_nemo.errors import UserError
from cosmos_nemo.files import write_text

MANIFEST_NAME = "manifest.json"
TASKS = ("video2world", "text2image", "autoregressive", "tokenizer")
_SHAPES = ("latent_shape", "token_shape")


@dataclass(frozen=True, kw_only=True)
class EncoderRef:
    """The encoder that made part of the samples, so that generation can take the same one."""

    path: str  # folder or file it was loaded from
    sha256: str  # of its files' contents


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """One tar file of the dataset."""

    name: str
    split: str  # "train" or "val"
    bytes: int
    samples: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a dataset folder holds. Written when everything else is complete.

    A field is None where it does not apply: shards of raw video have no latents, a tokenizer needs no text.
    """

    schema_version: int = SCHEMA_VERSION
    task: str  # one of `TASKS`: what the samples are made for
    kind: str = "latent"  # one of `SAMPLE_TYPES`: what the samples are
    num_frames: int | None  # pixel frames per sample, None when they differ
    height: int | None  # pixels after resizing, None when they differ
    width: int | None
    fps: float | None  # common frame rate of all samples, None when they differ
    latent_shape: tuple[int, int, int, int] | None = None  # (C, T, H, W) of every sample
    latent_dtype: str | None = None  # "bfloat16" or "float32"
    token_shape: tuple[int, int, int] | None = None  # (T, H, W) of every sample
    vocab_size: int | None = None  # token ids are below it
    text_width: int | None = None  # E
    text_length: int | None = None  # tokens kept at most
    video_tokenizer: EncoderRef | None = None
    text_encoder: EncoderRef | None = None
    seed: int
    shards: tuple[ShardRecord, ...]
    options: dict[str, Any] = field(default_factory=dict)  # every choice that changes the bytes
    sources: dict[str, str] = field(default_factory=dict)  # input file -> SHA-256

    def __post_init__(self) -> None:
        """Reject words that no reader knows."""
        if self.task not in TASKS:
            raise ValueError(f"task {self.task!r} is none of {', '.join(TASKS)}")
        if self.kind not in SAMPLE_TYPES:
            raise ValueError(f"kind {self.kind!r} is none of {', '.join(SAMPLE_TYPES)}")

    def num_samples(self, split: str) -> int:
        """Samples in the "train" or "val" split."""
        return sum(shard.samples for shard in self.shards if shard.split == split)

    def to_json(self) -> str:
        """The file's text; equal manifests give equal text."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into `folder` in one step."""
        write_text(folder / MANIFEST_NAME, self.to_json())


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Read the manifest of a dataset.

    Args:
        path: the dataset folder, or the manifest itself.

    Raises:
        UserError: there is none, it cannot be read, or it has another schema version.
    """
    file = Path(path)
    if file.is_dir() or file.name != MANIFEST_NAME:
        file = file / MANIFEST_NAME
    if not file.is_file():
        raise UserError(
            f"{file.parent} is not a prepared dataset: {MANIFEST_NAME} is missing; "
            "make it with `python -m data_prep shards --input FOLDER --output SHARDS`, or let an interrupted one finish"
        )
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        version = raw.pop("schema_version", None)
        if version not in READABLE_VERSIONS:
            raise UserError(
                f"{file} has schema_version {version}, this program reads {SCHEMA_VERSION}; prepare the shards again"
            )
        if version == 1:
            raw["video_tokenizer"] = raw.pop("vae")
        for name in ("video_tokenizer", "text_encoder"):
            raw[name] = None if raw.get(name) is None else EncoderRef(**raw[name])
        for name in _SHAPES:
            raw[name] = None if raw.get(name) is None else tuple(raw[name])
        raw["shards"] = tuple(ShardRecord(**shard) for shard in raw["shards"])
        return Manifest(**raw)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{file} cannot be read ({error}); prepare the shards again") from error


def check_shards(folder: str | os.PathLike[str], manifest: Manifest) -> None:
    """Compare the shards on disk with the manifest, by size: Energon dies half-way on a truncated tar.

    Raises:
        UserError: a shard is missing or has another size, or there is no Energon index.
    """
    folder = Path(folder)
    for shard in manifest.shards:
        file = folder / shard.name
        if not file.is_file():
            raise UserError(f"shard {file} is missing; {_ways_out(folder)}")
        found = file.stat().st_size
        if found != shard.bytes:
            raise UserError(
                f"shard {file} has {found} bytes, {MANIFEST_NAME} says {shard.bytes}: it is truncated or was changed; "
                f"{_ways_out(folder)}"
            )
    if not (folder / ".nv-meta" / ".info.json").is_file():
        raise UserError(
            f"{folder} has no Energon index (.nv-meta); run `python -m data_prep shards` again to finish it"
        )


def _ways_out(folder: Path) -> str:
    return (
        "copy it again, prepare the shards again, or train on the rest after "
        f"`python -m data_prep verify {folder} --repair`"
    )

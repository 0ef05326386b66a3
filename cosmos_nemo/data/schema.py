"""The contract between the writer of shards (`data_prep`) and their reader (`cosmos_nemo.data.energon`).

A sample is a few members of a tar file that share a key: ``KEY.json`` says what it is, arrays are safetensors, never
pickles. The dataset folder holds the shards, Energon's ``.nv-meta`` and ``manifest.json``, which is written last.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from cosmos_nemo.errors import UserError

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"

INFO_PART = "json"
LATENT_PART = "latent.safetensors"
TEXT_PART = "text.safetensors"


class SampleError(ValueError):
    """A sample that cannot be read: it is skipped and counted, and the run goes on."""


@dataclass(frozen=True, kw_only=True)
class SampleInfo:
    """Where a sample comes from and what was done to it."""

    kind: str  # "video" or "image"; an image has one frame
    source: str  # file name below the input folder, for example videos/robot.mp4
    caption: str
    start_frame: int  # index of the first frame in the source
    num_frames: int  # pixel frames that were encoded
    fps: float  # frames per second of the source; 0 for a still image
    height: int  # pixels after resizing
    width: int
    source_height: int  # pixels before resizing
    source_width: int
    source_num_frames: int
    extra: dict[str, Any] = field(default_factory=dict)  # control signals and buckets of later tasks


@dataclass(frozen=True, kw_only=True)
class DiffusionSample:
    """One clip as the diffusion models see it."""

    key: str  # unique in the dataset, without dots
    latent_C_T_H_W: Tensor  # normalised VAE latent, bfloat16 unless prepared otherwise
    text_L_E: Tensor  # text embedding trimmed to the true token count, bfloat16
    info: SampleInfo


def sample_id(key: str) -> int:
    """A number for `key` that is the same everywhere and always.

    Returns: an integer in [0, 2**63), so that it fits an int64 tensor.
    """
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") >> 1


def to_parts(sample: DiffusionSample) -> dict[str, bytes]:
    """Serialise a sample. Equal samples give equal bytes.

    Returns: part name (what follows the first dot of the tar member) -> content, sorted by name.
    """
    info = {"schema_version": SCHEMA_VERSION, **asdict(sample.info)}
    return {
        INFO_PART: json.dumps(info, sort_keys=True, ensure_ascii=True).encode(),
        LATENT_PART: save({"latent": sample.latent_C_T_H_W.contiguous()}),
        TEXT_PART: save({"text": sample.text_L_E.contiguous()}),
    }


def from_parts(key: str, parts: Mapping[str, bytes]) -> DiffusionSample:
    """Read back what `to_parts` wrote.

    Args:
        key: the sample's key.
        parts: at least the three parts of the schema; others are ignored.

    Raises:
        SampleError: a part is missing, unreadable, of another schema version, of a wrong rank, or not finite.
    """
    info = _read_info(key, parts)
    latent = _read_tensor(key, parts, LATENT_PART, "latent", rank=4)
    text = _read_tensor(key, parts, TEXT_PART, "text", rank=2)
    return DiffusionSample(key=key, latent_C_T_H_W=latent, text_L_E=text, info=info)


def _part(key: str, parts: Mapping[str, bytes], name: str) -> bytes:
    if name not in parts:
        raise SampleError(f"sample {key!r} has no part {name!r}")
    return parts[name]


def _read_info(key: str, parts: Mapping[str, bytes]) -> SampleInfo:
    try:
        raw = json.loads(_part(key, parts, INFO_PART))
        version = raw.pop("schema_version", None)
        if version != SCHEMA_VERSION:
            raise SampleError(f"sample {key!r} has schema version {version}; this program reads {SCHEMA_VERSION}")
        known = {f.name for f in fields(SampleInfo)}
        return SampleInfo(**{name: value for name, value in raw.items() if name in known})
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, AttributeError) as error:
        raise SampleError(f"sample {key!r}: part {INFO_PART!r} cannot be read: {error}") from error


def _read_tensor(key: str, parts: Mapping[str, bytes], part: str, name: str, *, rank: int) -> Tensor:
    try:
        tensors = load(_part(key, parts, part))
    except (SafetensorError, ValueError, RuntimeError) as error:
        if isinstance(error, SampleError):
            raise
        raise SampleError(f"sample {key!r}: part {part!r} cannot be read: {error}") from error
    tensor = tensors.get(name)
    if tensor is None or tensor.ndim != rank:
        found = "nothing" if tensor is None else f"shape {tuple(tensor.shape)}"
        raise SampleError(f"sample {key!r}: part {part!r} must hold {name!r} with {rank} axes, found {found}")
    if not bool(torch.isfinite(tensor).all()):
        raise SampleError(f"sample {key!r}: part {part!r} holds values that are not finite")
    return tensor


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
    """What a dataset folder holds. Written when everything else is complete."""

    schema_version: int = SCHEMA_VERSION
    task: str  # "video2world" or "text2image": what the samples are made for
    num_frames: int  # pixel frames per sample
    height: int
    width: int
    fps: float | None  # common frame rate of all samples, None when they differ
    latent_shape: tuple[int, int, int, int]  # (C, T, H, W) of every sample
    latent_dtype: str  # "bfloat16" or "float32"
    text_width: int  # E
    text_length: int  # tokens kept at most
    vae: EncoderRef
    text_encoder: EncoderRef
    seed: int
    shards: tuple[ShardRecord, ...]
    options: dict[str, Any] = field(default_factory=dict)  # every choice that changes the bytes
    sources: dict[str, str] = field(default_factory=dict)  # input file -> SHA-256

    def num_samples(self, split: str) -> int:
        """Samples in the "train" or "val" split."""
        return sum(shard.samples for shard in self.shards if shard.split == split)

    def to_json(self) -> str:
        """The file's text; equal manifests give equal text."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into `folder` in one step."""
        write_text_atomic(folder / MANIFEST_NAME, self.to_json())


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
        version = raw.get("schema_version")
        if version != SCHEMA_VERSION:
            raise UserError(
                f"{file} has schema_version {version}, this program reads {SCHEMA_VERSION}; prepare the shards again"
            )
        raw["vae"] = EncoderRef(**raw["vae"])
        raw["text_encoder"] = EncoderRef(**raw["text_encoder"])
        raw["shards"] = tuple(ShardRecord(**shard) for shard in raw["shards"])
        raw["latent_shape"] = tuple(raw["latent_shape"])
        return Manifest(**raw)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
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
            raise UserError(f"shard {file} is missing; copy it again or prepare the shards again")
        found = file.stat().st_size
        if found != shard.bytes:
            raise UserError(
                f"shard {file} has {found} bytes, {MANIFEST_NAME} says {shard.bytes}: it is truncated or was changed; "
                "copy it again or prepare the shards again"
            )
    if not (folder / ".nv-meta" / ".info.json").is_file():
        raise UserError(
            f"{folder} has no Energon index (.nv-meta); run `python -m data_prep shards` again to finish it"
        )


def write_text_atomic(file: Path, text: str) -> None:
    """Write `text` so that readers see either the old file or the whole new one, also after a crash."""
    temporary = file.with_name(file.name + ".tmp")
    with open(temporary, "w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

"""Several datasets as one, by an Energon Metadataset: each is drawn from as often as its weight says.

    __module__: megatron.energon
    __class__: MetadatasetV2
    splits:
      train:
        blend: [{weight: 3, path: a}, {weight: 1, path: b}]
      val:
        blend_epochized: [{repetitions: 1, path: a}, {repetitions: 1, path: b}]

Paths are relative to the file. Training draws at random by weight; validation takes every sample once.
"""

import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from cosmos_nemo.data.manifest import Manifest, check_shards, read_manifest
from cosmos_nemo.errors import UserError

ALIKE = (
    *("kind", "latent_shape", "latent_dtype", "token_shape", "vocab_size"),
    *("text_width", "video_tokenizer", "text_encoder"),
)
"""Fields of the manifests that must agree, so that batches can mix the datasets; of encoders, their contents."""

ENCODERS = ("video_tokenizer", "text_encoder")


@dataclass(frozen=True, kw_only=True)
class BlendPart:
    """One dataset of a blend."""

    path: Path
    weight: float


def read_blend(file: str | os.PathLike[str]) -> tuple[BlendPart, ...]:
    """The datasets that a blend trains on.

    Raises:
        UserError: it is no blend, or names a dataset that is not there.
    """
    place = Path(file)
    try:
        content = yaml.safe_load(place.read_text(encoding="utf-8"))
        entries = content["splits"]["train"]["blend"]
        parts = tuple(BlendPart(path=place.parent / e["path"], weight=float(e.get("weight", 1))) for e in entries)
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{place} is no blend of datasets ({error}); make it with `python -m data_prep blend`"
        ) from error
    if not parts:
        raise UserError(f"{place} blends nothing; make it with `python -m data_prep blend`")
    for part in parts:
        if not part.path.is_dir():
            raise UserError(f"{place} names the dataset {part.path}, which does not exist")
    return parts


def blend_text(file: Path, parts: tuple[BlendPart, ...]) -> str:
    """The text of a blend that lies at `file`; its paths are relative to it."""
    manifests = [read_manifest(part.path) for part in parts]
    paths = [os.path.relpath(part.path.resolve(), file.resolve().parent) for part in parts]
    train = [{"weight": part.weight, "path": path} for part, path in zip(parts, paths, strict=True)]
    splits: dict[str, Any] = {"train": {"blend": train}}
    held_out = [p for p, manifest in zip(paths, manifests, strict=True) if manifest.num_samples("val")]
    if held_out:
        splits["val"] = {"blend_epochized": [{"repetitions": 1, "path": path} for path in held_out]}
    content = {"__module__": "megatron.energon", "__class__": "MetadatasetV2", "splits": splits}
    return yaml.safe_dump(content, sort_keys=False)


def open_blend(file: str | os.PathLike[str]) -> Manifest:
    """One manifest for a blend: the samples of all, and what they have in common.

    Raises:
        UserError: a dataset is incomplete, or they cannot be mixed.
    """
    parts = read_blend(file)
    manifests = []
    for part in parts:
        manifest = read_manifest(part.path)
        check_shards(part.path, manifest)
        if not manifest.num_samples("train"):
            raise UserError(f"{part.path} has no train samples; leave it out of {file}")
        manifests.append(manifest)
    return combine([part.path for part in parts], manifests)


def samples_per_reader(file: str | os.PathLike[str], split: str, readers: int) -> int:
    """Samples that every reader is sure to get: each dataset is dealt to the readers on its own."""
    return sum(read_manifest(part.path).num_samples(split) // readers for part in read_blend(file))


def combine(paths: list[Path], manifests: list[Manifest]) -> Manifest:
    """What several manifests say together; shards are named with their folders.

    Raises:
        UserError: they differ in what samples of one batch must share; names the field and both values.
    """
    first = manifests[0]
    for path, manifest in zip(paths, manifests, strict=True):
        for name in ALIKE:
            mine, other = _content(getattr(first, name)), _content(getattr(manifest, name))
            # Embeddings that were made elsewhere name no encoder.
            if mine != other and not (name in ENCODERS and None in (mine, other)):
                raise UserError(
                    f"{paths[0]} and {path} cannot be mixed: {name.replace('_', ' ')} is {mine} there, {other} here; "
                    "prepare them alike"
                )
    common = {
        f.name: getattr(first, f.name)
        for f in fields(Manifest)
        if all(getattr(manifest, f.name) == getattr(first, f.name) for manifest in manifests)
    }
    shards = tuple(
        replace(shard, name=f"{path}/{shard.name}")
        for path, manifest in zip(paths, manifests, strict=True)
        for shard in manifest.shards
    )
    return Manifest(
        task=first.task,
        kind=first.kind,
        num_frames=common.get("num_frames"),
        height=common.get("height"),
        width=common.get("width"),
        fps=common.get("fps"),
        text_length=common.get("text_length"),
        **{name: _said(manifests, name) for name in ALIKE if name != "kind"},
        seed=first.seed,
        shards=shards,
    )


def _said(manifests: list[Manifest], name: str) -> Any:
    return next((value for manifest in manifests if (value := getattr(manifest, name)) is not None), None)


def _content(value: Any) -> Any:
    """What is compared: of an encoder, its weights and not where they lay."""
    return getattr(value, "sha256", value)

"""Facts about a dataset, as a table."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cosmos_nemo.data.blend import open_blend, read_blend
from cosmos_nemo.data.manifest import EncoderRef, Manifest, read_manifest
from cosmos_nemo.data.schema import SampleError
from data_prep.datasets.files import REPORT_NAME
from data_prep.datasets.reading import read_dataset


def describe(place: Path, *, buckets: bool = False) -> dict[str, Any]:
    """Collect facts about a dataset or a blend, in the order in which people ask for them.

    Args:
        place: folder of a dataset, or the file of a blend.
        buckets: also count samples by aspect ratio, size and length, which reads every shard.

    Raises:
        UserError: it is neither.
    """
    manifest = open_blend(place) if place.is_file() else read_manifest(place)
    facts = dict(_facts(manifest))
    if place.is_file():
        facts["blend"] = {str(part.path): part.weight for part in read_blend(place)}
        return facts
    report = place / REPORT_NAME
    if report.is_file():
        facts["input"] = json.loads(report.read_text(encoding="utf-8"))["counts"]
    if buckets:
        facts["buckets"] = _count_buckets(place, manifest)
    return facts


def _facts(manifest: Manifest) -> Iterator[tuple[str, Any]]:
    yield "task", manifest.task
    yield "samples", {split: manifest.num_samples(split) for split in ("train", "val")}
    yield "holds", {"latent": "latents", "tokens": "token ids", "video": "raw video or pictures"}[manifest.kind]
    yield "shards", len(manifest.shards)
    yield "bytes", sum(shard.bytes for shard in manifest.shards)
    for name in ("num_frames", "height", "width", "fps"):
        value = getattr(manifest, name)
        yield name, "differs" if value is None else value
    for name in ("latent_shape", "latent_dtype", "token_shape", "vocab_size", "text_width"):
        value = getattr(manifest, name)
        if value is not None:
            yield name, list(value) if isinstance(value, tuple) else value
    for name in ("video_tokenizer", "text_encoder"):
        encoder: EncoderRef | None = getattr(manifest, name)
        if encoder is not None:
            yield name, asdict(encoder) | {"here": Path(encoder.path).exists()}
    yield "seed", manifest.seed
    yield "schema_version", manifest.schema_version
    yield "sources", len(manifest.sources)


def _count_buckets(folder: Path, manifest: Manifest) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for raw in read_dataset(folder, manifest):
        try:
            info = raw.read(manifest).info
        except SampleError:
            counts["unreadable"] += 1
            continue
        bucket = {} if info is None else info.extra.get("bucket", {})
        counts[" ".join(str(value) for value in bucket.values()) or "unknown"] += 1
    return dict(counts.most_common())


def lines(facts: dict[str, Any]) -> list[str]:
    """Return the facts as lines of text."""
    rows = []
    for name, value in facts.items():
        if name == "bytes":
            value = f"{value:,}"
        elif name in ("video_tokenizer", "text_encoder"):
            value = f"{value['path']}{'' if value['here'] else ' (not here)'}, sha256 {value['sha256'][:12]}"
        elif isinstance(value, dict):
            value = ", ".join(f"{number} {key}" for key, number in value.items())
        elif isinstance(value, list):
            value = " x ".join(map(str, value))
        rows.append(f"{name.replace('_', ' '):<16} {value}")
    return rows

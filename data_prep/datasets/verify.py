"""Reads a dataset back: every byte against the manifest, every sample against the schema."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmos_nemo.data.manifest import Manifest, ShardRecord, read_manifest
from cosmos_nemo.data.schema import (
    INFO_PART,
    LATENT_PART,
    TEXT_PART,
    TOKENS_PART,
    DiffusionSample,
    SampleError,
    TokenSample,
    VideoSample,
)
from cosmos_nemo.errors import UserError
from cosmos_nemo.files import file_sha256
from cosmos_nemo.media.frames import iter_frames
from cosmos_nemo.media.pictures import VideoError, read_image
from cosmos_nemo.media.probe import probe_video
from data_prep.datasets.reading import RawSample, read_shard


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that is wrong, and where."""

    shard: str
    sample: str  # "" for the shard as a whole
    field: str
    reason: str


def verify(
    folder: Path, *, decode: bool = True, on_shard: Callable[[str], None] = lambda name: None
) -> Iterator[Problem]:
    """Check a dataset.

    Args:
        folder: of the dataset.
        decode: of raw video, decode every frame; otherwise only count them.
        on_shard: progress: called after each shard.

    Yields: every problem.

    Raises:
        UserError: there is no manifest to hold it against.
    """
    manifest = read_manifest(folder)
    keys: dict[str, str] = {}
    for shard in manifest.shards:
        yield from _verify_shard(folder, manifest, shard, keys, decode=decode)
        on_shard(shard.name)
    known = {shard.name for shard in manifest.shards}
    for file in sorted(folder.glob("*.tar")):
        if file.name not in known:
            yield Problem(shard=file.name, sample="", field="manifest", reason="it does not name this shard")
    yield from _verify_index(folder, manifest)


def _verify_shard(
    folder: Path, manifest: Manifest, shard: ShardRecord, keys: dict[str, str], *, decode: bool
) -> Iterator[Problem]:
    def whole(field: str, reason: str) -> Problem:
        return Problem(shard=shard.name, sample="", field=field, reason=reason)

    file = folder / shard.name
    if not file.is_file():
        yield whole("file", "missing")
        return
    size = file.stat().st_size
    if size != shard.bytes:
        yield whole("bytes", f"{size}, the manifest says {shard.bytes}: truncated or changed")
    elif file_sha256(file) != shard.sha256:
        yield whole("sha256", "not that of the manifest: its content was changed")
    count = 0
    try:
        for sample in read_shard(folder, shard):
            count += 1
            yield from check_sample(sample, manifest, keys, decode=decode)
    except UserError as error:
        yield whole("tar", str(error))
    if count != shard.samples:
        yield whole("samples", f"{count}, the manifest says {shard.samples}")


def check_sample(raw: RawSample, manifest: Manifest, keys: dict[str, str], *, decode: bool) -> Iterator[Problem]:
    """Hold one sample against schema and manifest.

    Args:
        raw: the sample.
        manifest: of its dataset.
        keys: of the samples seen so far, with their shards; this one's is added.
        decode: of raw video, decode every frame.
    """

    def problem(field: str, reason: str) -> Problem:
        return Problem(shard=raw.shard.name, sample=raw.key, field=field, reason=reason)

    if raw.key in keys:
        yield problem("key", f"also in {keys[raw.key]}")
    keys[raw.key] = raw.shard.name
    try:
        sample = raw.read(manifest)
    except SampleError as error:
        yield problem(error.part, str(error))
        return
    for field, found, expected in _compared(sample, manifest):
        if expected is not None and found != expected:
            yield problem(field, f"{found}, the manifest says {expected}")
    if isinstance(sample, TokenSample) and manifest.vocab_size is not None:
        low, high = int(sample.tokens_T_H_W.min()), int(sample.tokens_T_H_W.max())
        if low < 0 or high >= manifest.vocab_size:
            yield problem(TOKENS_PART, f"ids from {low} to {high}, the vocabulary has {manifest.vocab_size}")
    if isinstance(sample, VideoSample):
        try:
            _check_media(sample, decode=decode)
        except VideoError as error:
            yield problem(sample.media_part, str(error))


def _compared(sample: Any, manifest: Manifest) -> Iterator[tuple[str, Any, Any]]:
    """Field, what the sample has, and what the manifest says."""
    if isinstance(sample, DiffusionSample):
        yield LATENT_PART, tuple(sample.latent_C_T_H_W.shape), manifest.latent_shape
        yield LATENT_PART, str(sample.latent_C_T_H_W.dtype).removeprefix("torch."), manifest.latent_dtype
    if isinstance(sample, TokenSample):
        yield TOKENS_PART, tuple(sample.tokens_T_H_W.shape), manifest.token_shape
    if manifest.text_width is not None:
        yield TEXT_PART, None if sample.text_L_E is None else sample.text_L_E.shape[1], manifest.text_width
    if sample.info is not None:
        for name in ("num_frames", "height", "width", "fps"):
            yield f"{INFO_PART} {name}", getattr(sample.info, name), getattr(manifest, name)


def _check_media(sample: VideoSample, *, decode: bool) -> None:
    """Look at a video or picture.

    Raises:
        VideoError: it cannot be decoded, or is not what its description says.
    """
    if sample.media_part != "mp4":
        read_image(sample.media)
        return
    probe = probe_video(sample.media)
    if sample.info is not None and sample.info.num_frames != probe.num_frames:
        raise VideoError(f"{probe.num_frames} frames, its description says {sample.info.num_frames}")
    if decode:
        for _ in iter_frames(sample.media, probe):
            pass


def _verify_index(folder: Path, manifest: Manifest) -> Iterator[Problem]:
    """Energon must see the samples that the manifest counts."""
    file = folder / ".nv-meta" / ".info.json"
    if not file.is_file():
        yield Problem(shard="", sample="", field=".nv-meta", reason="Energon's index is missing")
        return
    counts = json.loads(file.read_text(encoding="utf-8")).get("shard_counts", {})
    for shard in manifest.shards:
        if counts.get(shard.name) != shard.samples:
            reason = f"{counts.get(shard.name)} samples, the manifest says {shard.samples}"
            yield Problem(shard=shard.name, sample="", field=".nv-meta", reason=reason)

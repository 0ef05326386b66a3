"""Check a dataset: every byte against the manifest, every sample against the schema."""

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
    sample: str
    """Key of the sample; empty for a problem of the shard as a whole."""
    field: str
    reason: str


def verify(
    folder: Path, *, decode: bool = True, on_shard: Callable[[str], None] = lambda name: None
) -> Iterator[Problem]:
    """Check a dataset.

    Args:
        folder: of the dataset.
        decode: of raw video, decode every frame; otherwise only count them.
        on_shard: called with the name of each finished shard.

    Yields:
        every problem.

    Raises:
        UserError: there is no manifest.
    """
    manifest = read_manifest(folder)
    keys: dict[str, str] = {}
    for shard in manifest.shards:
        yield from _verify_shard(folder, manifest, shard, keys, decode=decode)
        on_shard(shard.name)
    known = {shard.name for shard in manifest.shards}
    for file in sorted(folder.glob("*.tar")):
        if file.name not in known:
            yield Problem(shard=file.name, sample="", field="manifest", reason="does not list this shard")
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
        yield whole("bytes", f"{size} instead of {shard.bytes} as in the manifest: truncated or changed")
    elif file_sha256(file) != shard.sha256:
        yield whole("sha256", "differs from the manifest: the content was changed")
    count = 0
    try:
        for sample in read_shard(folder, shard):
            count += 1
            yield from check_sample(sample, manifest, keys, decode=decode)
    except UserError as error:
        yield whole("tar", str(error))
    if count != shard.samples:
        yield whole("samples", f"{count} instead of {shard.samples} as in the manifest")


def check_sample(raw: RawSample, manifest: Manifest, keys: dict[str, str], *, decode: bool) -> Iterator[Problem]:
    """Compare one sample with the schema and the manifest.

    Args:
        raw: the sample.
        manifest: of its dataset.
        keys: of the samples seen so far, with their shards; this one's is added.
        decode: of raw video, decode every frame.

    Yields:
        every problem.
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
            yield problem(field, f"{found} instead of {expected} as in the manifest")
    if isinstance(sample, TokenSample) and manifest.vocab_size is not None:
        low, high = int(sample.tokens_T_H_W.min()), int(sample.tokens_T_H_W.max())
        if low < 0 or high >= manifest.vocab_size:
            yield problem(TOKENS_PART, f"ids from {low} to {high}, but the vocabulary has {manifest.vocab_size}")
    if isinstance(sample, VideoSample):
        try:
            _check_media(sample, decode=decode)
        except VideoError as error:
            yield problem(sample.media_part, str(error))


def _compared(sample: Any, manifest: Manifest) -> Iterator[tuple[str, Any, Any]]:
    """Give the fields to compare: name, value of the sample, value of the manifest."""
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
    """Read a video or picture.

    Raises:
        VideoError: it cannot be decoded, or does not match its description.
    """
    if sample.media_part != "mp4":
        read_image(sample.media)
        return
    probe = probe_video(sample.media)
    if sample.info is not None and sample.info.num_frames != probe.num_frames:
        raise VideoError(f"{probe.num_frames} frames instead of {sample.info.num_frames} as described")
    if decode:
        for _ in iter_frames(sample.media, probe):
            pass


def _verify_index(folder: Path, manifest: Manifest) -> Iterator[Problem]:
    """Compare the numbers of samples that Energon sees with those of the manifest."""
    file = folder / ".nv-meta" / ".info.json"
    if not file.is_file():
        yield Problem(shard="", sample="", field=".nv-meta", reason="Energon's index is missing")
        return
    counts = json.loads(file.read_text(encoding="utf-8")).get("shard_counts", {})
    for shard in manifest.shards:
        if counts.get(shard.name) != shard.samples:
            reason = f"{counts.get(shard.name)} samples instead of {shard.samples} as in the manifest"
            yield Problem(shard=shard.name, sample="", field=".nv-meta", reason=reason)

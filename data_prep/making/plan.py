"""Plan which window of which video goes into which shard, before any work, from the inputs and a seed alone."""

import hashlib
import random
import re
from dataclasses import dataclass, replace

from cosmos_nemo.errors import UserError
from data_prep.datasets.holdout import hold_out, keyed_number
from data_prep.making.scan import Clip


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One sample to be made."""

    key: str
    clip: Clip
    start: int
    """First frame, counted at the clip's frame rate."""
    num_frames: int


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One tar file to be made."""

    name: str
    split: str
    chunks: tuple[Chunk, ...]


def plan_shards(
    clips: tuple[Clip, ...],
    *,
    num_frames: int | None,
    chunks_per_video: int,
    val_fraction: float,
    samples_per_shard: int,
    seed: int,
    numbered: bool = False,
) -> tuple[Shard, ...]:
    """Choose windows and distribute them over shards.

    The split is by source video, so that no video is on both sides. Each choice depends on the seed and the stem only,
    so that another video more or less does not move the windows of the rest.

    Args:
        clips: what can be used.
        num_frames: frames of a window; None takes whole videos.
        chunks_per_video: windows of each video, if it is long enough.
        val_fraction: share of the videos held out.
        samples_per_shard: at most.
        seed: of the windows and the split.
        numbered: name shards 000000.tar and samples 1, 2, ..., as the published tokenizer's data are named.

    Raises:
        UserError: a number is too small, or the share impossible.
    """
    for name, value in (("--chunks-per-video", chunks_per_video), ("--samples-per-shard", samples_per_shard)):
        if value < 1:
            raise UserError(f"{name} {value} must be at least 1")
    held_out = hold_out({clip.stem for clip in clips}, val_fraction, seed)
    shards: list[Shard] = []
    number = 0
    for split in ("train", "val"):
        chunks = [
            chunk
            for clip in clips
            if (clip.stem in held_out) == (split == "val")
            for chunk in choose_chunks(clip, num_frames=num_frames, count=chunks_per_video, seed=seed)
        ]
        if numbered:
            chunks = [replace(chunk, key=str(number + i)) for i, chunk in enumerate(chunks, 1)]
        number += len(chunks)
        for index, first in enumerate(range(0, len(chunks), samples_per_shard)):
            name = f"{len(shards):06d}.tar" if numbered else f"{split}-{index:06d}.tar"
            shards.append(Shard(name=name, split=split, chunks=tuple(chunks[first : first + samples_per_shard])))
    return tuple(shards)


def choose_chunks(clip: Clip, *, num_frames: int | None, count: int, seed: int) -> list[Chunk]:
    """Draw up to `count` different windows of a video, the last legal one included, in order of their start."""
    if num_frames is None:
        return [Chunk(key=sample_key(clip.stem), clip=clip, start=0, num_frames=clip.num_frames)]
    windows = range(clip.num_frames - num_frames + 1)
    rng = random.Random(keyed_number(seed, "start", clip.stem))
    starts = sorted(rng.sample(windows, min(count, len(windows))))
    key = sample_key(clip.stem)
    return [Chunk(key=f"{key}_{i:03d}", clip=clip, start=s, num_frames=num_frames) for i, s in enumerate(starts)]


def sample_key(stem: str) -> str:
    """Return a tar key for a file stem: Energon cuts keys at the first dot, so unusual characters are replaced.

    Where that changes the stem, a few digits of its hash keep different stems apart.
    """
    clean = re.sub(r"[^A-Za-z0-9_-]", "_", stem)[:60]  # a tar member's name has room for 100 characters
    return clean if clean == stem else f"{clean}-{hashlib.sha256(stem.encode()).hexdigest()[:8]}"

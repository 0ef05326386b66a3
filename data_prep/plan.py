"""Which window of which video goes into which shard: decided before any work, from the inputs and a seed alone."""

import hashlib
import random
import re
from dataclasses import dataclass

from cosmos_nemo.errors import UserError
from data_prep.scan import Clip


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One sample to be made."""

    key: str
    clip: Clip
    start: int  # first frame


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One tar file to be made."""

    name: str
    split: str
    chunks: tuple[Chunk, ...]


def plan_shards(
    clips: tuple[Clip, ...],
    *,
    num_frames: int,
    chunks_per_video: int,
    val_fraction: float,
    samples_per_shard: int,
    seed: int,
) -> tuple[Shard, ...]:
    """Choose windows and distribute them over shards.

    The split is by source video, so that no video is on both sides. Each choice depends on the seed and the stem only,
    so that another video more or less does not move the windows of the rest.

    Raises:
        UserError: a number that makes no sense.
    """
    if not 0 <= val_fraction < 1:
        raise UserError(f"--val-fraction {val_fraction} must be at least 0 and below 1")
    for name, value in (("--chunks-per-video", chunks_per_video), ("--samples-per-shard", samples_per_shard)):
        if value < 1:
            raise UserError(f"{name} {value} must be at least 1")
    ranked = sorted(clips, key=lambda clip: (keyed_number(seed, "split", clip.stem), clip.stem))
    num_val = round(val_fraction * len(clips))
    if val_fraction > 0 and len(clips) > 1:
        num_val = min(max(num_val, 1), len(clips) - 1)
    held_out = {clip.stem for clip in ranked[:num_val]}
    shards = []
    for split in ("train", "val"):
        chunks = [
            chunk
            for clip in clips
            if (clip.stem in held_out) == (split == "val")
            for chunk in choose_chunks(clip, num_frames=num_frames, count=chunks_per_video, seed=seed)
        ]
        for index, first in enumerate(range(0, len(chunks), samples_per_shard)):
            name = f"{split}-{index:06d}.tar"
            shards.append(Shard(name=name, split=split, chunks=tuple(chunks[first : first + samples_per_shard])))
    return tuple(shards)


def choose_chunks(clip: Clip, *, num_frames: int, count: int, seed: int) -> list[Chunk]:
    """Draw up to `count` different windows of a video, the last legal one included, in order of their start."""
    windows = range(clip.num_frames - num_frames + 1)
    rng = random.Random(keyed_number(seed, "start", clip.stem))
    starts = sorted(rng.sample(windows, min(count, len(windows))))
    return [Chunk(key=f"{sample_key(clip.stem)}_{i:03d}", clip=clip, start=start) for i, start in enumerate(starts)]


def sample_key(stem: str) -> str:
    """A tar key for a file stem: Energon cuts keys at the first dot, so other characters are replaced.

    Where that changes the stem, a few digits of its hash keep different stems apart.
    """
    clean = re.sub(r"[^A-Za-z0-9_-]", "_", stem)[:60]  # a tar member's name has room for 100 characters
    return clean if clean == stem else f"{clean}-{hashlib.sha256(stem.encode()).hexdigest()[:8]}"


def keyed_number(seed: int, *keys: str) -> int:
    """A number that depends on its arguments alone, in [0, 2**64)."""
    text = "\0".join((str(seed), *keys))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")

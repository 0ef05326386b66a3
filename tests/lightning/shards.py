"""A small dataset of random latents, as the training tests want it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.data.shards import make_sample, write_dataset

LATENT_SHAPE = (16, 3, 6, 10)
TEXT_WIDTH = 64


def write_shards(
    folder: Path,
    num_train: int = 8,
    num_val: int = 2,
    shards: int = 2,
    latent_shape: tuple[int, int, int, int] = LATENT_SHAPE,
    **manifest: Any,
) -> Path:
    """Writes train shards and one of validation; `manifest` changes fields of it."""
    keys = {f"train-{s:06d}.tar": [f"train{i:04d}" for i in range(s, num_train, shards)] for s in range(shards)}
    keys["val-000000.tar"] = [f"val{i:04d}" for i in range(num_val)]
    samples = {name: [make_sample(key, latent_shape, TEXT_WIDTH) for key in names] for name, names in keys.items()}
    frames, (height, width) = 1 + 4 * (latent_shape[1] - 1), (8 * side for side in latent_shape[2:])
    fields = {"num_frames": frames, "height": height, "width": width, "latent_shape": latent_shape}
    fields |= {"task": "video2world" if frames > 1 else "text2image", "text_width": TEXT_WIDTH}
    return write_dataset(folder, samples, **(fields | manifest))

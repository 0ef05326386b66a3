"""Small folders of videos and tiny encoders."""

from pathlib import Path

import numpy as np
import pytest

from cosmos_nemo.tokenizers.tiny import write_tiny_t5, write_tiny_wan
from data_prep.shards import ShardOptions
from data_prep.video import write_video


@pytest.fixture(scope="session")
def encoders(tmp_path_factory):
    """A folder with a tiny video tokenizer and a tiny text encoder."""
    folder = tmp_path_factory.mktemp("encoders")
    write_tiny_wan(folder / "vae", seed=0)
    write_tiny_t5(folder / "text_encoder", seed=0, captions=["a ball", "a block"])
    return folder


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """Six videos of 32x48 pixels with captions: five of 8 frames, and one of exactly 5."""
    folder = tmp_path_factory.mktemp("clips")
    for index in range(6):
        add_clip(folder, f"clip{index}", num_frames=5 if index == 5 else 8, seed=index)
    return folder


def add_clip(folder: Path, stem: str, *, num_frames: int = 8, caption: str | None = None, seed: int = 0) -> None:
    """Add a video and, unless it is "", its caption file."""
    (folder / "videos").mkdir(exist_ok=True)
    (folder / "metas").mkdir(exist_ok=True)
    low = np.random.default_rng(seed).integers(0, 256, (num_frames, 4, 6, 3), dtype=np.uint8)
    write_video(folder / "videos" / f"{stem}.mp4", low.repeat(8, axis=1).repeat(8, axis=2), fps=12)
    if caption != "":
        (folder / "metas" / f"{stem}.txt").write_text((caption or f"a ball called {stem}") + "\n")


@pytest.fixture
def options(encoders, clips, tmp_path):
    """Makes `ShardOptions` for the clips, with some fields changed."""

    def make(**changes) -> ShardOptions:
        fields = {
            "input": clips,
            "output": tmp_path / "shards",
            "vae": encoders / "vae",
            "text_encoder": encoders / "text_encoder",
            "num_frames": 5,
            "height": 32,
            "width": 48,
            "val_fraction": 0.2,
            "samples_per_shard": 2,
        }
        return ShardOptions(**(fields | changes))

    return make

"""Small folders of videos and tiny encoders."""

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosmos_nemo.data.schema import DiffusionSample, from_parts
from cosmos_nemo.media.writing import write_video
from cosmos_nemo.tokenizers.cosmos.config import TinyDV8x16x16Config
from cosmos_nemo.tokenizers.cosmos.jit import export_jit
from cosmos_nemo.tokenizers.cosmos.network import build_network
from cosmos_nemo.tokenizers.tiny import write_tiny_t5, write_tiny_wan
from data_prep.demo.sample import ENCODING
from data_prep.making.options import ShardOptions
from tests.tokenizers.cosmos.clips import TinyCV8x8x8Config


@pytest.fixture(scope="session")
def encoders(tmp_path_factory):
    """A folder with a tiny video tokenizer and a tiny text encoder."""
    folder = tmp_path_factory.mktemp("encoders")
    write_tiny_wan(folder / "vae", seed=0)
    write_tiny_t5(folder / "text_encoder", seed=0, captions=["a ball", "a block"])
    return folder


@pytest.fixture(scope="session")
def cosmos(tmp_path_factory):
    """A folder with the tiny tokenizers `cv` and `dv` in the published form."""
    folder = tmp_path_factory.mktemp("cosmos")
    for name, config in (("cv", TinyCV8x8x8Config()), ("dv", TinyDV8x16x16Config())):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            export_jit(build_network(config), config, folder / name)
    return folder


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """Six videos of 32x48 pixels with captions: five of 8 frames, and one of exactly 5."""
    folder = tmp_path_factory.mktemp("clips")
    for index in range(6):
        add_clip(folder, f"clip{index}", num_frames=5 if index == 5 else 8, seed=index)
    return folder


def add_clip(
    folder: Path,
    stem: str,
    *,
    num_frames: int = 8,
    caption: str | None = None,
    seed: int = 0,
    size: tuple[int, int] = (32, 48),
) -> None:
    """Add a video and, unless it is "", its caption file."""
    (folder / "videos").mkdir(exist_ok=True, parents=True)
    (folder / "metas").mkdir(exist_ok=True)
    low = np.random.default_rng(seed).integers(0, 256, (num_frames, 5, 7, 3), dtype=np.uint8)
    frames = low.repeat(8, axis=1).repeat(8, axis=2)[:, : size[0], : size[1]]
    frames_T_3_H_W = torch.from_numpy(frames).permute(0, 3, 1, 2)
    write_video(frames_T_3_H_W, folder / "videos" / f"{stem}.mp4", fps=12, encoding=ENCODING)
    if caption != "":
        (folder / "metas" / f"{stem}.txt").write_text((caption or f"a ball called {stem}") + "\n")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a dataset except Energon's SQLite index, whose pages may differ."""
    files = (f for f in sorted(folder.rglob("*")) if f.is_file() and f.suffix != ".sqlite")
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in files}


def samples_in(folder: Path, sample_type: type = DiffusionSample) -> dict[str, Any]:
    """All samples of a dataset by their keys, read without Energon."""
    found: dict[str, dict[str, bytes]] = {}
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, part = member.name.partition(".")
                found.setdefault(key, {})[part] = tar.extractfile(member).read()
    return {key: from_parts(key, parts, sample_type) for key, parts in found.items()}


@pytest.fixture
def options(encoders, clips, tmp_path):
    """Makes `ShardOptions` for the clips, with some fields changed."""

    def make(**changes) -> ShardOptions:
        fields = {
            "input": clips,
            "output": tmp_path / "shards",
            "video_tokenizer": encoders / "vae",
            "text_encoder": encoders / "text_encoder",
            "num_frames": 5,
            "height": 32,
            "width": 48,
            "val_fraction": 0.2,
            "samples_per_shard": 2,
        }
        return ShardOptions(**(fields | changes))

    return make

"""Small datasets of random latents or token ids, written by the schema without any encoder."""

import hashlib
import io
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cosmos_nemo.data import loader
from cosmos_nemo.data.latents import DiffusionTaskEncoder
from cosmos_nemo.data.manifest import EncoderRef, Manifest, ShardRecord
from cosmos_nemo.data.schema import AnySample, DiffusionSample, SampleInfo, TokenSample, sample_id, to_parts

LATENT_SHAPE = (16, 2, 4, 6)
TEXT_WIDTH = 8
TOKEN_SHAPE = (2, 4, 6)
VOCAB_SIZE = 100


def make_sample(
    key: str, latent_shape: tuple[int, ...] = LATENT_SHAPE, text_width: int = TEXT_WIDTH
) -> DiffusionSample:
    generator = torch.Generator().manual_seed(sample_id(key) % 2**31)
    num_tokens = 3 + sample_id(key) % 5
    return DiffusionSample(
        key=key,
        latent_C_T_H_W=torch.randn(latent_shape, generator=generator).bfloat16(),
        text_L_E=torch.randn(num_tokens, text_width, generator=generator).bfloat16(),
        info=SampleInfo(
            kind="video",
            source=f"videos/{key}.mp4",
            caption=f"caption of {key}",
            start_frame=3,
            num_frames=5,
            fps=12.0,
            height=32,
            width=48,
            source_height=64,
            source_width=96,
            source_num_frames=25,
        ),
    )


def make_tokens(key: str, shape: tuple[int, ...] = TOKEN_SHAPE, text_width: int | None = TEXT_WIDTH) -> TokenSample:
    like = make_sample(key, text_width=text_width or TEXT_WIDTH)
    generator = torch.Generator().manual_seed(sample_id(key) % 2**31)
    return TokenSample(
        key=key,
        tokens_T_H_W=torch.randint(VOCAB_SIZE, shape, generator=generator, dtype=torch.int32),
        text_L_E=like.text_L_E if text_width else None,
        info=like.info,
    )


Mend = Callable[[AnySample, dict[str, bytes]], dict[str, bytes]]


def write_dataset(
    folder: Path, shards: dict[str, list[AnySample]], *, change: Mend = lambda sample, parts: parts, **manifest: Any
) -> Path:
    """Write shards ("train-..." or "val-..."), Energon's index and the manifest.

    `change` may damage parts; `manifest` changes fields, which are those of a diffusion dataset otherwise.
    """
    from megatron.energon import BaseWebdatasetFactory

    folder.mkdir(parents=True)
    records = []
    for name, samples in shards.items():
        with tarfile.open(folder / name, "w") as tar:
            for sample in samples:
                for part, content in change(sample, to_parts(sample)).items():
                    entry = tarfile.TarInfo(f"{sample.key}.{part}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
        content = (folder / name).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        split = name.partition("-")[0]
        records.append(ShardRecord(name=name, split=split, bytes=len(content), samples=len(samples), sha256=digest))
    splits = [(split, f"{split}-.*") for split in ("train", "val") if any(r.split == split for r in records)]
    BaseWebdatasetFactory.prepare_dataset(
        folder, list(shards), split_parts_patterns=splits, shuffle_seed=None, workers=1
    )
    (folder / ".nv-meta" / "dataset.yaml").write_text("__module__: megatron.energon\n__class__: CrudeWebdataset\n")
    reference = EncoderRef(path="none", sha256="")
    fields = {
        "task": "video2world",
        "num_frames": 5,
        "height": 32,
        "width": 48,
        "fps": 12.0,
        "latent_shape": LATENT_SHAPE,
        "latent_dtype": "bfloat16",
        "text_width": TEXT_WIDTH,
        "text_length": 512,
        "video_tokenizer": reference,
        "text_encoder": reference,
        "seed": 0,
        "shards": tuple(records),
    }
    Manifest(**(fields | manifest)).write(folder)
    return folder


def train_loader(path: Path, *, text_length: int = 512, **reading: Any) -> Any:
    """`loader.train_loader` of latents."""
    return loader.train_loader(path, partial(DiffusionTaskEncoder, text_length=text_length), **reading)


def val_loader(path: Path, *, text_length: int = 512, **reading: Any) -> Any:
    """`loader.val_loader` of latents."""
    return loader.val_loader(path, partial(DiffusionTaskEncoder, text_length=text_length), **reading)

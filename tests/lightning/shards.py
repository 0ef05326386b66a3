"""Writes a small dataset of random latents by the schema, without any encoder."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import torch

from cosmos_nemo.data import manifest, schema

LATENT_SHAPE = (16, 3, 6, 10)
TEXT_WIDTH = 64


def write_shards(
    folder: Path, num_train: int = 8, num_val: int = 2, shards: int = 2, latent_shape: tuple = LATENT_SHAPE
) -> Path:
    """Writes train and val shards with an Energon index and the manifest; returns the folder."""
    folder.mkdir(parents=True)
    records = []
    for split, count in (("train", num_train), ("val", num_val)):
        for shard in range(shards if split == "train" else 1):
            keys = [f"{split}{i:04d}" for i in range(count) if i % (shards if split == "train" else 1) == shard]
            records.append(_write_shard(folder, f"{split}-{shard:06d}.tar", split, keys, latent_shape))
    _index(folder, [record.name for record in records])
    manifest.Manifest(
        task="video2world" if latent_shape[1] > 1 else "text2image",
        num_frames=1 + 4 * (latent_shape[1] - 1),
        height=8 * latent_shape[2],
        width=8 * latent_shape[3],
        fps=16.0,
        latent_shape=latent_shape,
        latent_dtype="bfloat16",
        text_width=TEXT_WIDTH,
        text_length=8,
        video_tokenizer=manifest.EncoderRef(path="none", sha256=""),
        text_encoder=manifest.EncoderRef(path="none", sha256=""),
        seed=0,
        shards=tuple(records),
    ).write(folder)
    return folder


def _write_shard(folder: Path, name: str, split: str, keys: list[str], latent_shape: tuple) -> manifest.ShardRecord:
    with tarfile.open(folder / name, "w") as tar:
        for key in keys:
            for part, content in schema.to_parts(_sample(key, latent_shape)).items():
                member = tarfile.TarInfo(f"{key}.{part}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    content = (folder / name).read_bytes()
    return manifest.ShardRecord(
        name=name, split=split, bytes=len(content), samples=len(keys), sha256=hashlib.sha256(content).hexdigest()
    )


def _sample(key: str, latent_shape: tuple) -> schema.DiffusionSample:
    generator = torch.Generator().manual_seed(schema.sample_id(key) % 2**31)
    info = schema.SampleInfo(
        kind="video",
        source=f"{key}.mp4",
        caption=key,
        start_frame=0,
        num_frames=1 + 4 * (latent_shape[1] - 1),
        fps=16.0,
        height=8 * latent_shape[2],
        width=8 * latent_shape[3],
        source_height=64,
        source_width=64,
        source_num_frames=99,
    )
    return schema.DiffusionSample(
        key=key,
        latent_C_T_H_W=torch.randn(latent_shape, generator=generator).bfloat16(),
        text_L_E=torch.randn(5, TEXT_WIDTH, generator=generator).bfloat16(),
        info=info,
    )


def _index(folder: Path, names: list[str]) -> None:
    from megatron.energon.flavors.webdataset import BaseWebdatasetFactory

    BaseWebdatasetFactory.prepare_dataset(
        folder,
        names,
        split_parts_patterns=[("train", "train-.*"), ("val", "val-.*")],
        shuffle_seed=None,
        workers=1,
    )
    (folder / ".nv-meta" / "dataset.yaml").write_text("__module__: megatron.energon\n__class__: CrudeWebdataset\n")

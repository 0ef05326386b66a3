"""Small datasets of random latents, written by the schema without any encoder."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import torch

from cosmos_nemo.data.schema import DiffusionSample, EncoderRef, Manifest, SampleInfo, ShardRecord, sample_id, to_parts

LATENT_SHAPE = (16, 2, 4, 6)
TEXT_WIDTH = 8


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


Mend = Callable[[DiffusionSample, dict[str, bytes]], dict[str, bytes]]


def write_dataset(
    folder: Path, shards: dict[str, list[DiffusionSample]], *, change: Mend = lambda sample, parts: parts
) -> Path:
    """Write shards ("train-..." or "val-..."), Energon's index and the manifest; `change` may damage parts."""
    from megatron.energon import BaseWebdatasetFactory

    folder.mkdir()
    records = []
    for name, samples in shards.items():
        with tarfile.open(folder / name, "w") as tar:
            for sample in samples:
                for part, content in change(sample, to_parts(sample)).items():
                    entry = tarfile.TarInfo(f"{sample.key}.{part}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
        size = (folder / name).stat().st_size
        split = name.partition("-")[0]
        records.append(ShardRecord(name=name, split=split, bytes=size, samples=len(samples), sha256=""))
    splits = [(split, f"{split}-.*") for split in ("train", "val") if any(r.split == split for r in records)]
    BaseWebdatasetFactory.prepare_dataset(
        folder, list(shards), split_parts_patterns=splits, shuffle_seed=None, workers=1
    )
    (folder / ".nv-meta" / "dataset.yaml").write_text("__module__: megatron.energon\n__class__: CrudeWebdataset\n")
    reference = EncoderRef(path="none", sha256="")
    Manifest(
        task="video2world",
        num_frames=5,
        height=32,
        width=48,
        fps=12.0,
        latent_shape=LATENT_SHAPE,
        latent_dtype="bfloat16",
        text_width=TEXT_WIDTH,
        text_length=512,
        vae=reference,
        text_encoder=reference,
        seed=0,
        shards=tuple(records),
    ).write(folder)
    return folder

"""`data_prep shards`: a folder of videos to an Energon dataset."""

from pathlib import Path
from typing import Annotated

import typer


def shards(
    input: Annotated[Path, typer.Option(help="Folder with videos/NAME.mp4 (or NAME.mp4) and metas/NAME.txt.")],
    output: Annotated[Path, typer.Option(help="Folder for the dataset; an interrupted one is completed.")],
    vae: Annotated[Path, typer.Option(help="Wan video tokenizer: diffusers folder or the published tokenizer.pth.")],
    text_encoder: Annotated[Path, typer.Option(help="T5 encoder folder, for example a local copy of t5-11b.")],
    num_frames: Annotated[int, typer.Option(help="Frames per sample, 4k+1: 93 or 61 for video, 1 for images.")] = 93,
    height: Annotated[int, typer.Option(help="Pixels, a multiple of 16.")] = 704,
    width: Annotated[int, typer.Option(help="Pixels, a multiple of 16.")] = 1280,
    val_fraction: Annotated[float, typer.Option(help="Share of the videos held out for validation.")] = 0.1,
    chunks_per_video: Annotated[int, typer.Option(help="Windows drawn from each video.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of windows and split.")] = 0,
    samples_per_shard: Annotated[int, typer.Option(help="Samples per tar file, the unit of resuming.")] = 32,
    latent_dtype: Annotated[str, typer.Option(help="bfloat16 or float32.")] = "bfloat16",
    max_bad: Annotated[
        float, typer.Option(help="Share of the input that may be unusable before it is an error.")
    ] = 0.5,
    device: Annotated[str, typer.Option(help="Where the encoders run: auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads; another number may change last bits.")] = 1,
    overwrite: Annotated[bool, typer.Option(help="Replace a dataset made with other settings.")] = False,
) -> None:
    """Encode videos and captions to an Energon dataset of latents and text embeddings."""
    from data_prep.progress import ShardProgress, print_report
    from data_prep.shards import ShardOptions, make_shards

    options = ShardOptions(
        input=input,
        output=output,
        vae=vae,
        text_encoder=text_encoder,
        num_frames=num_frames,
        height=height,
        width=width,
        val_fraction=val_fraction,
        chunks_per_video=chunks_per_video,
        seed=seed,
        samples_per_shard=samples_per_shard,
        latent_dtype=latent_dtype,
        max_bad=max_bad,
        device=device,
        threads=threads,
        overwrite=overwrite,
    )
    with ShardProgress() as progress:
        report = make_shards(options, progress=progress)
    print_report(report)
    typer.echo(f"{output}: {report.samples['train']} train and {report.samples['val']} val samples")

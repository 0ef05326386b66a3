"""`data_prep shards`: a folder of videos to an Energon dataset."""

from pathlib import Path
from typing import Annotated

import typer


def shards(
    input: Annotated[Path, typer.Option(help="Folder with videos/NAME.mp4 (or NAME.mp4) and metas/NAME.txt.")],
    output: Annotated[Path, typer.Option(help="Folder for the dataset; an interrupted one is completed.")],
    family: Annotated[
        str | None, typer.Option("--for", help="What to train: v2w, t2i, ar or tokenizer; v2w if left out.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Recipe whose frames and sizes to make; the family's usual one if left out.")
    ] = None,
    video_tokenizer: Annotated[
        Path | None,
        typer.Option(
            "--video-tokenizer",
            "--vae",
            help="For latents: Wan (diffusers folder, tokenizer.pth) or a CV folder; for token ids: a DV folder.",
        ),
    ] = None,
    text_encoder: Annotated[
        Path | None,
        typer.Option(help="T5 encoder folder, such as a local t5-11b; t5_xxl/*.pickle are used if left out."),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Keep the mp4 files; training encodes them. Always so for tokenizers.")
    ] = False,
    num_frames: Annotated[
        int | None, typer.Option(help="Frames per sample; of raw video, the least that is of use. The recipe's.")
    ] = None,
    height: Annotated[int | None, typer.Option(help="Pixels; the recipe's if left out.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels; the recipe's if left out.")] = None,
    fit: Annotated[
        str | None, typer.Option(help="stretch to the size, or cover it and cut the centre; the recipe's if left out.")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Pick frames for this rate; the videos' own if left out.")] = None,
    val_fraction: Annotated[float, typer.Option(help="Share of the videos held out for validation.")] = 0.1,
    chunks_per_video: Annotated[int, typer.Option(help="Windows drawn from each video.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of windows and split.")] = 0,
    samples_per_shard: Annotated[int, typer.Option(help="Samples per tar file, the unit of work and resuming.")] = 32,
    latent_dtype: Annotated[str, typer.Option(help="bfloat16 or float32.")] = "bfloat16",
    mp4: Annotated[
        str, typer.Option(help="Raw video: copy the file, remux its video stream, or encode its frames again.")
    ] = "copy",
    cut: Annotated[
        bool, typer.Option("--cut", help="Raw video, with --mp4 encode: windows of --num-frames, not whole videos.")
    ] = False,
    max_bad: Annotated[
        float, typer.Option(help="Share of the input that may be unusable before it is an error.")
    ] = 0.5,
    device: Annotated[str, typer.Option(help="Where the encoders run: auto, cpu or cuda.")] = "auto",
    workers: Annotated[
        int, typer.Option(help="Processes; each holds its own encoders. The bytes do not depend on it.")
    ] = 1,
    threads: Annotated[int, typer.Option(help="CPU threads per process; another number may change last bits.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a dataset made with other settings.")] = False,
) -> None:
    """Make an Energon dataset of a folder of videos: latents, token ids or raw video, as the recipe needs."""
    from data_prep.commands.progress import ShardProgress, print_report
    from data_prep.making.options import options_for
    from data_prep.making.shards import make_shards

    options = options_for(
        family,
        recipe,
        raw=raw,
        input=input,
        output=output,
        video_tokenizer=video_tokenizer,
        text_encoder=text_encoder,
        num_frames=num_frames,
        height=height,
        width=width,
        fit=fit,
        fps=fps,
        val_fraction=val_fraction,
        chunks_per_video=chunks_per_video,
        seed=seed,
        samples_per_shard=samples_per_shard,
        latent_dtype=latent_dtype,
        mp4=mp4,
        cut=cut,
        max_bad=max_bad,
        device=device,
        threads=threads,
        workers=workers,
        overwrite=overwrite,
    )
    with ShardProgress() as progress:
        report = make_shards(options, progress=progress)
    print_report(report)
    typer.echo(f"{output}: {report.samples['train']} train and {report.samples['val']} val samples")

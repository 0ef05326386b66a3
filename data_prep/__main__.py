"""The command line of data preparation. Options live here; the work is done in the modules it imports when needed."""

import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from cosmos_nemo.errors import UserError

app = typer.Typer(
    name="data_prep",
    help="Turn a folder of videos and captions into Energon shards for training.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(help="Where to write videos/*.mp4 and metas/*.txt.")],
    num_videos: Annotated[int, typer.Option(help="Videos to render.")] = 32,
    seed: Annotated[int, typer.Option(help="Seed of the scenes; equal seeds give equal files.")] = 0,
    num_frames: Annotated[int, typer.Option(help="Frames per video.")] = 25,
    fps: Annotated[float, typer.Option(help="Frames per second.")] = 16.0,
    height: Annotated[int, typer.Option(help="Pixels.")] = 64,
    width: Annotated[int, typer.Option(help="Pixels.")] = 96,
) -> None:
    """Render an example dataset: bouncing balls, pendulums, collisions, ramps and throws, with captions."""
    from data_prep.sample import SampleOptions, write_sample

    options = SampleOptions(
        num_videos=num_videos, seed=seed, num_frames=num_frames, fps=fps, height=height, width=width
    )
    with _bar("rendering", num_videos) as advance:
        count = write_sample(folder, options, on_video=advance)
    typer.echo(f"{count} videos with captions in {folder}")


@app.command()
def encoders(
    folder: Annotated[Path, typer.Argument(help="Where to write vae/ and text_encoder/.")],
    videos: Annotated[Path, typer.Option(help="Folder of videos (and metas/ with captions) to fit them to.")],
    steps: Annotated[int, typer.Option(help="Optimizer steps for the video tokenizer.")] = 650,
    seed: Annotated[int, typer.Option(help="Seed of weights and batches.")] = 0,
    height: Annotated[int, typer.Option(help="Pixels the videos are resized to.")] = 64,
    width: Annotated[int, typer.Option(help="Pixels the videos are resized to.")] = 96,
) -> None:
    """Make tiny stand-ins for the Wan video tokenizer and T5, fitted to a small dataset. Not for real training."""
    from data_prep.encoders import EncoderOptions, write_encoders

    options = EncoderOptions(videos=videos, steps=steps, seed=seed, height=height, width=width)
    with _bar("fitting", steps) as advance:
        result = write_encoders(folder, options, on_step=advance)
    typer.echo(f"{folder}/vae: PSNR {result.psnr:.1f} dB after {steps} steps; look at {result.picture}")
    typer.echo(f"{folder}/text_encoder: {result.num_captions} captions")


@app.command()
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
    from data_prep.progress import ShardProgress, print_report

    with ShardProgress() as progress:
        report = make_shards(options, progress=progress)
    print_report(report)
    typer.echo(f"{output}: {report.samples['train']} train and {report.samples['val']} val samples")


def _bar(title: str, total: int) -> Any:
    from data_prep.progress import bar

    return bar(title, total)


def main() -> None:
    """Run the command line; a `UserError` becomes one line and exit status 1."""
    # Imports of the encoders warn about each other's deprecated packages on every start.
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    try:
        app(prog_name="python -m data_prep")
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()

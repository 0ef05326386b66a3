"""`data_prep encoders`: tiny encoders for demonstrations."""

from pathlib import Path
from typing import Annotated

import typer


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
    from data_prep.progress import bar

    options = EncoderOptions(videos=videos, steps=steps, seed=seed, height=height, width=width)
    with bar("fitting", steps) as advance:
        result = write_encoders(folder, options, on_step=advance)
    typer.echo(f"{folder}/vae: PSNR {result.psnr:.1f} dB after {steps} steps; look at {result.picture}")
    typer.echo(f"{folder}/text_encoder: {result.num_captions} captions")

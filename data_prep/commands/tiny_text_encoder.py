"""`data_prep tiny-text-encoder`: make a stand-in for T5 where the published weights are missing."""

from pathlib import Path
from typing import Annotated

import typer


def tiny_text_encoder(
    folder: Annotated[Path, typer.Argument(help="Where to write it, in the form of a local copy of t5-11b.")],
    captions: Annotated[Path, typer.Option(help="Folder with metas/NAME.txt, whose words it should know.")],
    seed: Annotated[int, typer.Option(help="Seed of the weights.")] = 0,
) -> None:
    """Make a tiny T5 with random weights. It can tell captions apart and nothing else: not for real training."""
    from data_prep.demo.text_encoder import write_text_encoder

    count = write_text_encoder(folder, captions=captions, seed=seed)
    typer.echo(f"{folder}: knows the words of {count} captions")

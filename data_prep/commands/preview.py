"""`data_prep preview`: draw samples of a dataset."""

from pathlib import Path
from typing import Annotated

import typer


def preview(
    folder: Annotated[Path, typer.Argument(help="Folder written by `shards`.")],
    output: Annotated[Path, typer.Option(help="The .png file to write.")] = Path("preview.png"),
    num_samples: Annotated[int, typer.Option(help="Number of samples, evenly spread over the dataset.")] = 8,
    num_frames: Annotated[int, typer.Option(help="Frames of each sample.")] = 6,
    video_tokenizer: Annotated[
        Path | None, typer.Option(help="Decodes latents and token ids; if omitted, the one that made them.")
    ] = None,
) -> None:
    """Draw a contact sheet of samples with their captions."""
    from data_prep.datasets.preview import write_preview

    count, method = write_preview(
        folder, output, num_samples=num_samples, num_frames=num_frames, video_tokenizer=video_tokenizer
    )
    typer.echo(f"{output}: {count} samples, {method}")

"""`data_prep extract-images`: make an image dataset from the frames of videos."""

from pathlib import Path
from typing import Annotated

import typer


def extract_images(
    folder: Annotated[Path, typer.Argument(help="Dataset folder with videos/ and metas/.")],
    output: Annotated[Path, typer.Argument(help="Folder for images/*.jpg and metas/*.txt; existing files are kept.")],
    stride: Annotated[int, typer.Option(help="Take every n-th frame.")] = 30,
) -> None:
    """Make a Text2Image dataset from the frames of videos."""
    from data_prep.commands.progress import bar
    from data_prep.folders import images
    from data_prep.folders.layout import find_media

    with bar("extracting", len(find_media(folder, images=False))) as advance:
        report = images.extract_images(folder, output, stride=stride, on_video=advance)
    typer.echo(f"{report.images} images in {output / 'images'}, {report.written} of them new")
    if report.without_caption:
        typer.echo(
            f"{len(report.without_caption)} videos have no caption; `data_prep metas {output} --images` writes some"
        )
    for stem, reason in report.bad.items():
        typer.echo(f"skipped {stem}: {reason}")

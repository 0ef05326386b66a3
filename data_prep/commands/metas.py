"""`data_prep metas`: write captions."""

from pathlib import Path
from typing import Annotated

import typer

from cosmos_nemo.errors import UserError


def metas(
    folder: Annotated[Path, typer.Argument(help="Dataset folder with videos/*.mp4 or images/*.jpg.")],
    prompt: Annotated[str | None, typer.Option(help="One caption for all.")] = None,
    from_json: Annotated[
        Path | None, typer.Option(help='Captions by name: {"NAME": "caption"}, or JSON lines with name and caption.')
    ] = None,
    images: Annotated[bool, typer.Option("--images", help="Caption images/ instead of the videos.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace captions that differ.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep captions that differ, and write the others.")] = False,
) -> None:
    """Write captions to metas/NAME.txt, one for each video or image.

    Captions that differ from those to be written are an error unless --overwrite or --keep says what to do with them.
    """
    from data_prep.folders.metas import Existing, write_captions, write_prompt

    if (prompt is None) == (from_json is None):
        raise UserError("give either --prompt TEXT or --from-json FILE")
    if overwrite and keep:
        raise UserError("give either --overwrite or --keep, not both")
    existing: Existing = "replace" if overwrite else "keep" if keep else "refuse"
    if prompt is not None:
        report = write_prompt(folder, prompt, images=images, existing=existing)
    else:
        assert from_json is not None
        report = write_captions(folder, from_json, images=images, existing=existing)
    typer.echo(f"{len(report.written)} captions written to {folder / 'metas'}, {len(report.same)} were there already")
    for names, what in (
        (report.different, "have another caption, which was kept"),
        (report.without_caption, "have no caption"),
        (report.without_media, "are in the JSON but not in the folder"),
    ):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            typer.echo(f"{len(names)} {what}: {', '.join(names[:5])}{more}")

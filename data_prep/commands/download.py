"""`data_prep download`: fetch what the guides name from the hub."""

from pathlib import Path
from typing import Annotated

import typer


def download(
    names: Annotated[
        list[str] | None, typer.Argument(help="What to fetch; without names, the list of downloads is printed.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder; datasets/ and checkpoints/ are made in it.")] = Path("."),
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit; if omitted, the main branch.")] = None,
    workers: Annotated[int, typer.Option(help="Files at a time.")] = 8,
) -> None:
    """Fetch data sets and checkpoints from the Hugging Face hub. No other command here uses the network."""
    from data_prep.folders.download import ITEMS, fetch, lookup

    if not names:
        name_width, place_width = max(map(len, ITEMS)), max(len(item.place) for item in ITEMS.values())
        for name, item in ITEMS.items():
            typer.echo(f"{name:{name_width}}  {item.place:{place_width}}  {item.description} ({item.repo})")
        return
    for item in [lookup(name) for name in names]:
        typer.echo(f"{item.repo} -> {fetch(item, output, revision=revision, workers=workers)}")

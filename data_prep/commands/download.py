"""`data_prep download`: what the guides name, from the hub."""

from pathlib import Path
from typing import Annotated

import typer


def download(
    names: Annotated[
        list[str] | None, typer.Argument(help="What to fetch; without names, a list of what there is.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder; datasets/ and checkpoints/ are made in it.")] = Path("."),
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit; the main branch if left out.")] = None,
    workers: Annotated[int, typer.Option(help="Files at a time.")] = 8,
) -> None:
    """Fetch data sets and checkpoints from the Hugging Face hub. No other command here uses the network."""
    from data_prep.folders.download import ITEMS, fetch, lookup

    if not names:
        width = max(map(len, ITEMS))
        for name, item in ITEMS.items():
            typer.echo(f"{name:{width}}  {item.repo:42}  {item.description}")
        return
    for item in [lookup(name) for name in names]:
        typer.echo(f"{item.repo} -> {fetch(item, output, revision=revision, workers=workers)}")

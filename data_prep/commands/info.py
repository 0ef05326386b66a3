"""`data_prep info`: show facts about a dataset."""

import json
from pathlib import Path
from typing import Annotated

import typer


def info(
    place: Annotated[Path, typer.Argument(help="Folder written by `shards`, or file written by `blend`.")],
    buckets: Annotated[
        bool,
        typer.Option("--buckets", help="Also count samples by aspect ratio, size and length; every shard is read."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show task, counts, sizes and encoders of a dataset."""
    from data_prep.datasets.describe import describe, lines

    facts = describe(place, buckets=buckets)
    typer.echo(json.dumps(facts, indent=2) if as_json else "\n".join(lines(facts)))

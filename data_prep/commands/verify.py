"""`data_prep verify`: check a dataset against its manifest."""

from pathlib import Path
from typing import Annotated

import typer

MAX_ROWS = 100  # of the table


def verify(
    folder: Annotated[Path, typer.Argument(help="Folder written by `shards`.")],
    decode: Annotated[
        bool, typer.Option("--decode/--no-decode", help="Decode every frame of raw video, or only count them.")
    ] = True,
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove what is damaged; the rest becomes a whole dataset again.")
    ] = False,
) -> None:
    """Check every shard against the manifest's SHA-256 and every sample against the schema.

    Every problem is reported with its shard, sample and field; the exit status is 1 if there is one.
    """
    if repair:
        _repair(folder)
        return
    from rich.console import Console
    from rich.table import Table

    from cosmos_nemo.data.manifest import read_manifest
    from data_prep.commands.progress import bar
    from data_prep.datasets.verify import verify as find_problems

    manifest = read_manifest(folder)
    with bar("verifying", len(manifest.shards)) as advance:
        problems = list(find_problems(folder, decode=decode, on_shard=advance))
    if not problems:
        samples = sum(shard.samples for shard in manifest.shards)
        typer.echo(f"{folder}: {samples} samples in {len(manifest.shards)} shards, all as in the manifest")
        return
    table = Table("shard", "sample", "field", "problem")
    for problem in problems[:MAX_ROWS]:
        table.add_row(problem.shard, problem.sample, problem.field, problem.reason)
    Console().print(table)
    shards = {problem.shard for problem in problems}
    more = f", {len(problems) - MAX_ROWS} not shown" if len(problems) > MAX_ROWS else ""
    typer.echo(
        f"{folder}: {len(problems)} problems in {len(shards)} shards{more}; "
        "copy or make these shards again, or remove what is damaged with --repair"
    )
    raise typer.Exit(1)


def _repair(folder: Path) -> None:
    from data_prep.datasets.repair import repair

    lost = repair(folder)
    for name, count in lost.items():
        typer.echo(f"{name}: {count} samples removed")
    typer.echo(f"{folder}: {sum(lost.values())} samples removed, the rest is a whole dataset")

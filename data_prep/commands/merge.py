"""`data_prep merge`: join several datasets."""

from pathlib import Path
from typing import Annotated

import typer


def merge(
    folders: Annotated[list[Path], typer.Argument(help="Datasets made with the same encoders and sizes.")],
    output: Annotated[Path, typer.Option(help="Folder of the new dataset; it must not exist.")],
) -> None:
    """Join several datasets, which stay as they are. On one file system their shards are linked, not copied."""
    from cosmos_nemo.data.manifest import read_manifest
    from data_prep.commands.progress import bar
    from data_prep.datasets.merge import merge as merge_datasets

    with bar("merging", sum(len(read_manifest(folder).shards) for folder in folders)) as advance:
        manifest, notes = merge_datasets(folders, output, on_shard=advance)
    for note in notes:
        typer.echo(f"note: {note}")
    typer.echo(f"{output}: {manifest.num_samples('train')} train and {manifest.num_samples('val')} val samples")

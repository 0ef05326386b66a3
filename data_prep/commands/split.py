"""`data_prep split`: hold out another share of a dataset."""

from pathlib import Path
from typing import Annotated

import typer


def split(
    folder: Annotated[Path, typer.Argument(help="Folder written by `shards` or `merge`; it stays as it is.")],
    output: Annotated[Path, typer.Option(help="Folder of the new dataset; it must not exist.")],
    val: Annotated[float, typer.Option(help="Share of the source videos held out for validation.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Seed of the choice.")] = 0,
    samples_per_shard: Annotated[int, typer.Option(help="Samples per tar file.")] = 32,
) -> None:
    """Copy a dataset with another split into train and val. A hash of the source video decides: no video is in both."""
    from cosmos_nemo.data.manifest import read_manifest
    from data_prep.commands.progress import bar
    from data_prep.datasets.split import split_again

    with bar("splitting", sum(shard.samples for shard in read_manifest(folder).shards)) as advance:
        manifest = split_again(
            folder, output, val=val, seed=seed, samples_per_shard=samples_per_shard, on_sample=advance
        )
    typer.echo(f"{output}: {manifest.num_samples('train')} train and {manifest.num_samples('val')} val samples")

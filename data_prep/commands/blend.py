"""`data_prep blend`: train on several datasets by weight."""

from pathlib import Path
from typing import Annotated

import typer

from cosmos_nemo.errors import UserError


def blend(
    parts: Annotated[list[str], typer.Argument(help="FOLDER=WEIGHT of each dataset; if omitted, a weight is 1.")],
    output: Annotated[Path, typer.Option(help="The .yaml file to write; give it to training as data.path.")],
) -> None:
    """Write an Energon Metadataset that draws from several datasets by weight. The datasets are not copied."""
    from cosmos_nemo.data.blend import BlendPart, blend_text, combine
    from cosmos_nemo.data.manifest import check_shards, read_manifest
    from cosmos_nemo.files import write_text

    if output.suffix not in (".yaml", ".yml"):
        raise UserError(f"--output {output} must be a .yaml file")
    chosen = tuple(BlendPart(path=path, weight=weight) for path, weight in map(_part, parts))
    manifests = [read_manifest(part.path) for part in chosen]
    for part, manifest in zip(chosen, manifests, strict=True):
        check_shards(part.path, manifest)
    combine([part.path for part in chosen], manifests)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, blend_text(output, chosen))
    total = sum(part.weight for part in chosen)
    for part, manifest in zip(chosen, manifests, strict=True):
        typer.echo(f"{part.weight / total:6.1%}  {part.path} ({manifest.num_samples('train')} train samples)")
    typer.echo(f"{output}: train with data.path={output}")


def _part(text: str) -> tuple[Path, float]:
    path, found, weight = text.rpartition("=")
    if not found:
        return Path(text), 1.0
    try:
        number = float(weight)
    except ValueError:
        raise UserError(f"{text}: {weight!r} is not a number; write FOLDER=3") from None
    if not 0 < number < float("inf"):
        raise UserError(f"{text}: a weight must be above 0")
    return Path(path), number

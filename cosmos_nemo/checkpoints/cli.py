"""The commands `cosmos-nemo ckpt ...`. What they do is imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ckpt = typer.Typer(help="Move weights between training checkpoints and published files.", no_args_is_help=True)

Ema = Annotated[bool, typer.Option("--ema", help="Take the averaged weights.")]
Dtype = Annotated[str | None, typer.Option(help="Cast to this, e.g. bfloat16; the source's if left out.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing target.")]


@ckpt.command("import")
def import_(
    source: Annotated[
        Path,
        typer.Argument(
            help="Published .pt, .safetensors or diffusers folder; tensor-parallel files; an upstream run's folder; "
            "a folder of adapters."
        ),
    ],
    target: Annotated[Path, typer.Argument(help="Run folder to make.")],
    base: Annotated[
        Path | None, typer.Option(help="The weights that SOURCE's adapters belong to, if it holds adapters alone.")
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Alpha of the adapters, if SOURCE does not say it; 16 is upstream's default.")
    ] = None,
    ema: Ema = False,
    dtype: Dtype = None,
    overwrite: Overwrite = False,
) -> None:
    """Published or post-trained weights -> a run folder that training and generate take."""
    from cosmos_nemo.checkpoints import commands

    message = commands.import_checkpoint(
        source, target, base=base, alpha=alpha, ema=ema, dtype=dtype, overwrite=overwrite
    )
    print(message)


@ckpt.command()
def export(
    source: Annotated[Path, typer.Argument(help="Run folder, an iter_* folder, or published weights.")],
    target: Annotated[
        Path,
        typer.Argument(help=".pt or .safetensors file (iter_000001000.pt: as post-training writes it); or a folder."),
    ],
    format: Annotated[str, typer.Option(help="original or diffusers.")] = "original",
    adapters: Annotated[
        str,
        typer.Option(
            help="Of a run with adapters: merged into the weights; only the adapters, as a folder that PEFT takes; or "
            "beside the weights in one file, as upstream's post-training writes them."
        ),
    ] = "merged",
    tensor_parallel: Annotated[
        int | None, typer.Option(help="Also write this many TARGET_model_mp_{rank}.pt files.")
    ] = None,
    ema: Ema = False,
    dtype: Dtype = None,
    overwrite: Overwrite = False,
) -> None:
    """Training checkpoint -> the published format."""
    from cosmos_nemo.checkpoints import commands

    message = commands.export_checkpoint(
        source,
        target,
        format=format,
        adapters=adapters,
        dtype=dtype,
        ema=ema,
        tensor_parallel=tensor_parallel,
        overwrite=overwrite,
    )
    print(message)


@ckpt.command()
def shard(
    source: Annotated[Path, typer.Argument(help="Published weights, such as model.pt or iter_000001000.pt.")],
    tensor_parallel: Annotated[int, typer.Option(help="Number of files.")],
    target: Annotated[
        Path | None, typer.Option(help="X.pt, whose parts X_model_mp_{rank}.pt to write; SOURCE if left out.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """One published file -> upstream's file per tensor-parallel rank, X_model_mp_{rank}.pt."""
    from cosmos_nemo.checkpoints import shard_commands

    print(
        shard_commands.shard_checkpoint(source, target, tensor_parallel=tensor_parallel, overwrite=overwrite),
    )


@ckpt.command()
def merge(
    source: Annotated[Path, typer.Argument(help="X.pt (need not exist) of X_model_mp_{rank}.pt, or one of these.")],
    target: Annotated[Path, typer.Argument(help=".pt file to write.")],
    tensor_parallel: Annotated[int | None, typer.Option(help="How many files there must be.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Upstream's files of all tensor-parallel ranks -> one published file."""
    from cosmos_nemo.checkpoints import shard_commands

    print(
        shard_commands.merge_checkpoint(source, target, tensor_parallel=tensor_parallel, overwrite=overwrite),
    )


@ckpt.command()
def verify(
    path: Annotated[Path, typer.Argument(help="Checkpoint or published weights.")],
    ema: Ema = False,
) -> None:
    """Check that a checkpoint is complete."""
    from cosmos_nemo.checkpoints import commands

    print(commands.verify(path, ema=ema))


@ckpt.command()
def info(
    path: Annotated[Path, typer.Argument(help="Checkpoint or published weights.")],
    ema: Ema = False,
) -> None:
    """Say what a checkpoint is."""
    from cosmos_nemo.checkpoints import commands

    print(commands.info(path, ema=ema))


@ckpt.command()
def diff(
    a: Annotated[Path, typer.Argument(help="Checkpoint or published weights, in any layout.")],
    b: Annotated[Path, typer.Argument(help="The other.")],
    ema: Ema = False,
    limit: Annotated[int, typer.Option(help="Tensors to list, largest difference first; 0 lists all.")] = 20,
) -> None:
    """Say in which tensors two checkpoints differ and by how much; exit code 1 if they do."""
    from cosmos_nemo.checkpoints import diff as diff_command

    text, same = diff_command.diff(a, b, ema=ema, limit=limit)
    print(text)
    raise typer.Exit(0 if same else 1)

"""`cosmos-nemo generate`: its options are those of every family of networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cosmos_nemo.inference.choices import OPTIONS
from cosmos_nemo.options import takes_any_of


@takes_any_of(OPTIONS, without=("input",), flags={"tokenizer": ("--tokenizer", "--vae")})
def generate(
    input: Annotated[
        list[Path],
        typer.Option(help="Image or video that the generated video begins with; [autoregressive] may be repeated."),
    ] = [],  # noqa: B006
    model: Annotated[
        str, typer.Option(help=f"Family that the checkpoint must belong to, {' or '.join(OPTIONS)}; auto accepts any.")
    ] = "auto",
    **choices: Any,
) -> None:
    """Generate a video or an image from a checkpoint.

    Options that begin with names in brackets are those of these families of networks; the others are for all.
    """
    from cosmos_nemo.inference.generate import generate as run

    result = run(input=tuple(input), model=model, **choices)
    for path in result.paths:
        print(f"wrote {path}")
    if result.paths:
        print(f"in {result.seconds:.0f} s")

"""Commands that run something whole: a recipe, data preparation, the golden comparison, the doctor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

PASS_THROUGH: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""For a command whose own parser reads the rest of the line, --help included."""


def recipes(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False) -> None:
    """List the recipes."""
    from cosmos_nemo import catalog

    if as_json:
        print(json.dumps([{"name": entry.name, "description": entry.description} for entry in catalog.ENTRIES]))
    else:
        print(catalog.listing())


def recipe(context: typer.Context) -> None:
    """Run a recipe: NAME key=value ...; like `nemo run recipe`, without loading NeMo's own plug-ins."""
    from recipes.launch import command as launch

    raise typer.Exit(launch.main(context.args, prog="cosmos-nemo recipe"))


def prep(context: typer.Context) -> None:
    """Prepare data: sample videos, tiny encoders, shards; the same as `python -m data_prep`."""
    from data_prep.__main__ import app as data_prep

    data_prep(context.args, prog_name="cosmos-nemo prep")


def golden(
    paths: Annotated[list[Path], typer.Argument(help="Folders of golden cases, such as ../shared/golden/dit.")],
    filter: Annotated[str | None, typer.Option(help="Only cases whose name matches this pattern.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="One row per quantity.")] = False,
) -> None:
    """Compare this project's models with golden vectors: one row per case, exit code 1 on any difference."""
    from cosmos_nemo.golden.runner import run

    raise typer.Exit(run(paths, filter=filter, verbose=verbose))


def doctor(
    device: Annotated[bool, typer.Option("--device/--no-device", help="Also look at GPUs.")] = True,
    assumptions: Annotated[
        bool, typer.Option("--assumptions", help="Print what Megatron-core and NeMo assume, and what is done about it.")
    ] = False,
) -> None:
    """Show versions, pins, devices and codecs; exit code 1 if something is missing."""
    from cosmos_nemo.doctor import print_assumptions, run

    if assumptions:
        print_assumptions()
        return
    raise typer.Exit(run(device=device))

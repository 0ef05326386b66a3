"""`cosmos-nemo`: every command of the project in one place. Rooms are imported by the command that needs them."""

from __future__ import annotations

import logging
import os
import sys
import warnings

import typer

from cosmos_nemo.checkpoints.cli import ckpt
from cosmos_nemo.cli import generation, reports, running, tokenizers
from cosmos_nemo.errors import UserError

app = typer.Typer(
    name="cosmos-nemo",
    help="Post-train NVIDIA Cosmos world models: videos -> shards -> training -> checkpoint -> video.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(ckpt, name="ckpt")
app.command()(running.recipes)
app.command(context_settings=running.PASS_THROUGH)(running.recipe)
app.command(context_settings=running.PASS_THROUGH)(running.prep)
app.command()(running.golden)
app.command()(generation.generate)
app.command()(reports.plot)
app.command()(reports.report)
app.command()(tokenizers.reconstruct)
app.command()(tokenizers.latent_statistics)
app.command()(running.doctor)


def main() -> None:
    """Run the command line; a `UserError` becomes one line and exit status 1."""
    _quiet_libraries()
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _quiet_libraries() -> None:
    """Keep standard error for this program's own lines: importing Megatron alone prints a dozen warnings."""
    warnings.simplefilter("ignore")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")  # of the helper process that writes checkpoints
    for name in ("megatron", "torch", "diffusers", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    handler.addFilter(_lower_level)
    logging.getLogger("cosmos_nemo").addHandler(handler)


def _lower_level(record: logging.LogRecord) -> bool:
    """Write `warning:` in the way `error:` is written."""
    record.levelname = record.levelname.lower()
    return True

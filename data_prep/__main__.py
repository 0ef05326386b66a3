"""The command line of data preparation: which commands there are, and how errors are told."""

import warnings

import typer

from cosmos_nemo.errors import UserError
from data_prep.commands import download, encoders, extract_images, hdvila, inspect, metas, sample, shards, t5

app = typer.Typer(
    name="data_prep",
    help="Turn a folder of videos and captions into Energon shards for training.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(sample.sample)
app.command()(download.download)
app.command()(encoders.encoders)
app.command()(inspect.inspect)
app.command()(metas.metas)
app.command()(extract_images.extract_images)
app.command()(t5.t5)
app.command()(hdvila.hdvila)
app.command()(shards.shards)


def main() -> None:
    """Run the command line; a `UserError` becomes one line and exit status 1."""
    # Imports of the encoders warn about each other's deprecated packages on every start.
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    try:
        app(prog_name="python -m data_prep")
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()

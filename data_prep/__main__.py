"""The command line of data preparation: the list of commands, and the form of errors."""

import warnings

import typer

from cosmos_nemo.errors import UserError
from data_prep.commands import (
    blend,
    download,
    extract_images,
    hdvila,
    info,
    inspect,
    merge,
    metas,
    preview,
    sample,
    shards,
    split,
    t5,
    tiny_text_encoder,
    verify,
)

app = typer.Typer(
    name="data_prep",
    help="Turn a folder of videos and captions into Energon shards for training.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(sample.sample)
app.command()(download.download)
app.command()(inspect.inspect)
app.command()(metas.metas)
app.command()(extract_images.extract_images)
app.command()(t5.t5)
app.command()(tiny_text_encoder.tiny_text_encoder)
app.command()(hdvila.hdvila)
app.command()(shards.shards)
app.command()(verify.verify)
app.command()(info.info)
app.command()(preview.preview)
app.command()(split.split)
app.command()(merge.merge)
app.command()(blend.blend)


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

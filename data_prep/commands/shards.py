"""`data_prep shards`: turn a folder of videos into an Energon dataset."""

from typing import Annotated, Any

import typer

from cosmos_nemo.options import takes
from data_prep.making.options import ShardOptions, options_for

RECIPE = "the recipe's"


@takes(
    ShardOptions,
    without=("task", "kind", "size_multiple", "captions"),
    flags={"video_tokenizer": ("--video-tokenizer", "--vae")},
    decided_by={"num_frames": RECIPE, "height": RECIPE, "width": RECIPE, "fit": RECIPE},
)
def shards(
    family: Annotated[
        str | None, typer.Option("--for", help="What to train: v2w, t2i, ar or tokenizer.", show_default="v2w")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="Recipe that decides about frames and sizes.", show_default="the usual one of --for"),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Keep the mp4 files; training encodes them. Always so for tokenizers.")
    ] = False,
    **given: Any,
) -> None:
    """Make an Energon dataset from a folder of videos: latents, token ids or raw video, as the recipe needs."""
    from data_prep.commands.progress import ShardProgress, print_report
    from data_prep.making.shards import make_shards

    options = options_for(family, recipe, raw=raw, **given)
    with ShardProgress() as progress:
        report = make_shards(options, progress=progress)
    print_report(report)
    typer.echo(f"{options.output}: {report.samples['train']} train and {report.samples['val']} val samples")

"""Commands that draw what runs have written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def plot(
    run_dirs: Annotated[list[Path], typer.Argument(help="Run folders; each holds metrics.jsonl.")],
    output: Annotated[Path, typer.Option(help="PNG to write.")],
    window: Annotated[
        int | None, typer.Option(help="Steps of the running mean; if omitted, a tenth of the run.")
    ] = None,
) -> None:
    """Draw the loss of one or several runs."""
    from cosmos_nemo.report.loss_curve import plot_loss

    for name, (first, last) in plot_loss(run_dirs, output, window).items():
        print(f"{name}: loss {first:.3f} -> {last:.3f}")
    print(f"wrote {output}")


def report(
    output: Annotated[Path, typer.Argument(help="HTML file to write; everything is embedded in it.")],
    run: Annotated[list[Path], typer.Option(help="Run folder that holds metrics.jsonl; may be repeated.")],
    media: Annotated[list[str], typer.Option(help="CAPTION=FILE, a picture or mp4; may be repeated.")] = [],  # noqa: B006
    timings: Annotated[Path | None, typer.Option(help="File of lines 'label<TAB>seconds'.")] = None,
    next: Annotated[list[str], typer.Option(help="A command for the reader; may be repeated.")] = [],  # noqa: B006
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Post-training report",
) -> None:
    """Write one page that shows runs: loss curves, pictures, videos, timings, next commands."""
    from cosmos_nemo.report import page

    page.write_page(
        output,
        title=title,
        run_dirs=run,
        media=[page.parse_media(text) for text in media],
        timings=page.read_timings(timings) if timings else (),
        next_commands=next,
    )
    print(f"wrote {output}")

"""`data_prep sample`: an example dataset."""

from pathlib import Path
from typing import Annotated

import typer


def sample(
    folder: Annotated[Path, typer.Argument(help="Where to write videos/*.mp4 and metas/*.txt.")],
    num_videos: Annotated[int, typer.Option(help="Videos to render.")] = 32,
    seed: Annotated[int, typer.Option(help="Seed of the scenes; equal seeds give equal files.")] = 0,
    num_frames: Annotated[int, typer.Option(help="Frames per video.")] = 25,
    fps: Annotated[float, typer.Option(help="Frames per second.")] = 16.0,
    height: Annotated[int, typer.Option(help="Pixels.")] = 64,
    width: Annotated[int, typer.Option(help="Pixels.")] = 96,
) -> None:
    """Render an example dataset: bouncing balls, pendulums, collisions, ramps and throws, with captions."""
    from data_prep.commands.progress import bar
    from data_prep.demo.sample import SampleOptions, write_sample

    options = SampleOptions(
        num_videos=num_videos, seed=seed, num_frames=num_frames, fps=fps, height=height, width=width
    )
    with bar("rendering", num_videos) as advance:
        count = write_sample(folder, options, on_video=advance)
    typer.echo(f"{count} videos with captions in {folder}")

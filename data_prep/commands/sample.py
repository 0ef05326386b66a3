"""`data_prep sample`: render an example dataset."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cosmos_nemo.options import takes
from data_prep.demo.options import SampleOptions


@takes(SampleOptions)
def sample(
    folder: Annotated[Path, typer.Argument(help="Where to write videos/*.mp4 and metas/*.txt.")], **given: Any
) -> None:
    """Render an example dataset: bouncing balls, pendulums, collisions, ramps and throws, with captions."""
    from data_prep.commands.progress import bar
    from data_prep.demo.sample import write_sample

    options = SampleOptions(**given)
    with bar("rendering", options.num_videos) as advance:
        count = write_sample(folder, options, on_video=advance)
    typer.echo(f"{count} videos with captions in {folder}")

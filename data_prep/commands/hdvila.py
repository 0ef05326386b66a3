"""`data_prep hdvila`: cut clips out of longer videos."""

from pathlib import Path
from typing import Annotated

import typer

from cosmos_nemo.errors import UserError


def hdvila(
    folder: Annotated[Path, typer.Argument(help="Dataset folder with hdvila-100M.jsonl and videos_orig/VIDEO_ID.mp4.")],
    do_clip: Annotated[
        bool, typer.Option("--do-clip", help="Cut the clips to videos/, and write metas/*.txt and *.json.")
    ] = False,
    do_download: Annotated[
        bool, typer.Option("--do-download", help="First fetch the missing videos to videos_orig/ (needs pytubefix).")
    ] = False,
    n_videos: Annotated[int, typer.Option(help="Number of videos; one clip is cut out of each.")] = 128,
    jsonl: Annotated[
        Path | None,
        typer.Option(help="Clip descriptions, a JSON object per line; if omitted, FOLDER/hdvila-100M.jsonl."),
    ] = None,
) -> None:
    """Cut captioned clips out of longer videos, following a file of clip descriptions like that of HD-VILA-100M."""
    from data_prep.commands.progress import bar
    from data_prep.folders import hdvila as work

    if not (do_clip or do_download):
        raise UserError("give --do-clip, --do-download, or both")
    report = work.HdvilaReport()
    clips = work.read_clips(jsonl or folder / work.JSONL, num_videos=n_videos, report=report)
    if do_download:
        fetched = work.HdvilaReport()
        with bar("fetching", len(clips)) as advance:
            work.download_originals(folder, clips, report=fetched, on_video=advance)
        _say(f"videos in {folder / work.ORIGINALS}", fetched)
    if do_clip:
        with bar("cutting", len(clips)) as advance:
            work.cut_clips(folder, clips, report=report, on_clip=advance)
        _say(f"clips in {folder / 'videos'}", report)
        if not report.done and not report.kept:
            raise UserError(f"none of {len(clips)} clips could be cut; the reasons are above")


def _say(what: str, report: object) -> None:
    done, kept, bad = (getattr(report, name) for name in ("done", "kept", "bad"))
    typer.echo(f"{len(done) + len(kept)} {what}: {len(done)} new, {len(kept)} were there already, {len(bad)} skipped")
    for name, reason in list(bad.items())[:20]:
        typer.echo(f"skipped {name}: {reason}")
    if len(bad) > 20:
        typer.echo(f"and {len(bad) - 20} more")

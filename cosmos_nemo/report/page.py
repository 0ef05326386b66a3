"""Write one HTML file that shows runs: curves, pictures, videos, timings and commands to type next."""

from __future__ import annotations

import base64
import html
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cosmos_nemo.errors import UserError
from cosmos_nemo.files import write_text
from cosmos_nemo.report.loss_curve import plot_loss
from cosmos_nemo.runs.metrics import read_metrics
from cosmos_nemo.runs.record import read_record

MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".mp4": "video/mp4"}
"""Files that a page can show; everything is embedded, so that the page can be mailed or opened from anywhere."""

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24 }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-top: 1px solid #d0d7de; padding-top: 1rem }
figure { margin: 1rem 0 } figcaption { color: #57606a } img, video { max-width: 100%; image-rendering: pixelated }
img.curve { image-rendering: auto } video { min-width: 50% } table { border-collapse: collapse }
td, th { padding: .25rem .75rem; text-align: left; border-bottom: 1px solid #d0d7de }
td:last-child { text-align: right; font-variant-numeric: tabular-nums }
pre { background: #f6f8fa; padding: 1rem; overflow-x: auto }
"""


@dataclass(frozen=True, kw_only=True)
class Media:
    """A picture or a video with its caption."""

    caption: str
    path: Path


def write_page(
    output: Path,
    *,
    title: str,
    run_dirs: Sequence[Path],
    media: Sequence[Media] = (),
    timings: Sequence[tuple[str, float]] = (),
    next_commands: Sequence[str] = (),
) -> None:
    """Write the page in one step.

    Args:
        output: the HTML file.
        title: its heading.
        run_dirs: run folders that hold `metrics.jsonl`; each gets its loss curve and its numbers.
        media: what to show, in this order.
        timings: (label, seconds).
        next_commands: shell lines for the reader.

    Raises:
        UserError: a run has no metrics, or a file is missing or is neither a picture nor a video.
    """
    sections = [_run(run_dir) for run_dir in run_dirs]
    sections += ["<h2>To look at</h2>", *map(_figure, media)] if media else []
    sections += [_timings(timings)] if timings else []
    if next_commands:
        sections.append(f"<h2>Next</h2>\n<pre>{html.escape(chr(10).join(next_commands))}</pre>")
    heading = html.escape(title)
    head = f'<head><meta charset="utf-8"><title>{heading}</title><style>{_STYLE}</style></head>'
    body = "\n".join([f"<h1>{heading}</h1>", *sections])
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, f'<!doctype html>\n<html lang="en">{head}\n<body>\n{body}\n</body></html>\n')


def read_timings(path: Path) -> list[tuple[str, float]]:
    """Read a file of lines `label<TAB>seconds`.

    Raises:
        UserError: it is missing, or a line has another form.
    """
    if not path.is_file():
        raise UserError(f"no timings at {path}; give a file of lines 'label<TAB>seconds', or omit --timings.")
    timings = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        label, tab, seconds = line.rpartition("\t")
        try:
            timings.append((label, float(seconds if tab else "")))
        except ValueError:
            raise UserError(f"{path}, line {number} is not 'label<TAB>seconds': {line!r}") from None
    return timings


def parse_media(text: str) -> Media:
    """Parse `CAPTION=FILE`, or a bare `FILE`, whose name becomes the caption."""
    caption, _, path = text.rpartition("=")
    return Media(caption=caption or Path(path).stem, path=Path(path))


def _run(run_dir: Path) -> str:
    """Return the section of one run: its curve and numbers."""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "loss.png"
        ((name, (first, last)),) = plot_loss([run_dir], picture).items()
        curve = f'<img class="curve" alt="loss of {html.escape(name)}" src="{_data_uri(picture)}">'
    rows = read_metrics(run_dir)
    facts = {
        "optimizer steps": str(rows[-1]["step"]),
        "loss, mean of the first and last steps": f"{first:.3f} → {last:.3f}",
    }
    facts |= _description(run_dir)
    table = "\n".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>" for k, v in facts.items())
    return f"<h2>{html.escape(name)}</h2>\n<figure>{curve}</figure>\n<table>{table}</table>"


def _description(run_dir: Path) -> dict[str, str]:
    """Return what a reader would ask first of run.json; a folder of metrics alone has none."""
    run = read_record(run_dir)
    if run is None:
        return {}
    chosen = {"recipe": run.recipe, "task": run.task, "precision": run.precision, "data": run.data and run.data.path}
    return {name: value for name, value in chosen.items() if value}


def _figure(item: Media) -> str:
    source, caption = _data_uri(item.path), html.escape(item.caption)
    if item.path.suffix.lower() == ".mp4":
        content = f'<video src="{source}" controls loop muted autoplay playsinline></video>'
    else:
        content = f'<img alt="{caption}" src="{source}">'
    return f"<figure>{content}<figcaption>{caption}</figcaption></figure>"


def _data_uri(path: Path) -> str:
    kind = MEDIA_TYPES.get(path.suffix.lower())
    if kind is None:
        raise UserError(f"{path} is neither a picture nor a video; a page shows {', '.join(MEDIA_TYPES)}.")
    if not path.is_file():
        raise UserError(f"{path} is missing; make it first, or omit it from the page.")
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _timings(timings: Sequence[tuple[str, float]]) -> str:
    rows = [*timings, ("together", sum(seconds for _, seconds in timings))]
    table = "\n".join(f"<tr><td>{html.escape(label)}</td><td>{seconds:.0f} s</td></tr>" for label, seconds in rows)
    return f"<h2>Timings</h2>\n<table>{table}</table>"

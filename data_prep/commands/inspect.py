"""`data_prep inspect`: take stock of a folder."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cosmos_nemo.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from data_prep.folders.inventory import Inventory, MediaFile

MAX_ROWS = 20  # of each list; --json has everything


def inspect(
    folder: Annotated[Path, typer.Argument(help="Folder with videos/*.mp4 (or *.mp4), images/*.jpg, metas/*.txt.")],
    images: Annotated[bool, typer.Option("--images", help="Examine images/ instead of the videos.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything about every file as JSON.")] = False,
    workers: Annotated[int, typer.Option(help="Threads that read files.")] = 2,
) -> None:
    """Show what is in a folder and which recipes its clips serve, before anything is done."""
    import json

    from data_prep.commands.progress import bar
    from data_prep.folders.inventory import take_inventory
    from data_prep.folders.layout import find_media

    if workers < 1:
        raise UserError(f"--workers {workers} must be at least 1")
    with bar("reading", len(find_media(folder, images=images))) as advance:
        inventory = take_inventory(folder, images=images, workers=workers, on_file=advance)
    if as_json:
        typer.echo(json.dumps(inventory.to_dict(), indent=2))
    else:
        _print(inventory)


def _print(inventory: "Inventory") -> None:
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    table = _table("files", "codec", "size", "fps", "frames", "seconds", title=f"{inventory.total} {inventory.kind}")
    for (codec, size, rate), files in inventory.groups()[:MAX_ROWS]:
        frames, seconds = _range(files, "num_frames"), _range(files, "seconds")
        table.add_row(str(len(files)), codec, size, rate, frames, seconds)
    console.print(table)
    captions = ", ".join(f"{count} {state}" for state, count in sorted(inventory.captions().items()))
    console.print(f"captions: {captions or 'none'}", soft_wrap=True)
    odd = sum(not file.upright or not file.square_pixels for file in inventory.files)
    if odd:
        console.print(f"{odd} are stored rotated or with non-square pixels; they are read as they are displayed")
    console.print(_recipes(inventory))
    missing = [file.name for file in inventory.files if file.caption != "present"]
    _print_list("without a usable caption", missing)
    _print_list("the same content", [" = ".join(names) for names in inventory.duplicates])
    _print_list("captions of nothing", [f"metas/{stem}.txt" for stem in inventory.captions_without_media])
    _print_list("unreadable", [f"{name}: {reason}" for name, reason in inventory.unreadable.items()])


def _recipes(inventory: "Inventory") -> "Table":
    """Tabulate how many files serve each recipe; recipes of the same clips share a row."""
    table = _table("needs", "fit", "too short", "no caption", "enlarged", "other shape", "for")
    rows: dict[Any, list[str]] = {}
    for name, fit in inventory.recipes.items():
        rows.setdefault(fit, []).append(name.removeprefix("cosmos_"))
    for fit, names in rows.items():
        numbers = (fit.fits, fit.too_short, fit.without_caption, fit.enlarged, fit.reshaped)
        table.add_row(fit.needs, *map(str, numbers), ", ".join(names))
    return table


def _table(*columns: str, title: str | None = None) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column not in ("for", "seconds", "frames"))
    return table


def _range(files: "list[MediaFile]", name: str) -> str:
    values = sorted(getattr(file, name) for file in files)
    low, middle, high = values[0], values[len(values) // 2], values[-1]
    return f"{low:g}" if low == high else f"{low:g} to {high:g}, median {middle:g}"


def _print_list(title: str, rows: list[str]) -> None:
    if rows:
        typer.echo(f"{title} ({len(rows)}):")
        for row in rows[:MAX_ROWS]:
            typer.echo(f"  {row}")
        if len(rows) > MAX_ROWS:
            typer.echo(f"  and {len(rows) - MAX_ROWS} more; --json has them all")

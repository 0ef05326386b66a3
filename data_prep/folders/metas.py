"""Captions in upstream's layout: `metas/NAME.txt` beside `videos/NAME.mp4` or `images/NAME.jpg`."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cosmos_nemo.errors import UserError
from cosmos_nemo.files import remove_debris, write_text
from data_prep.folders.layout import find_media

Existing = Literal["refuse", "keep", "replace"]
"""What to do when a file has another caption already."""


@dataclass(kw_only=True)
class CaptionReport:
    """Fate of each name; every name of the folder and of the source is in one list."""

    written: list[str] = field(default_factory=list)
    """New, or replaced."""
    same: list[str] = field(default_factory=list)
    """Had this caption already."""
    different: list[str] = field(default_factory=list)
    """Had another caption, which was kept."""
    without_caption: list[str] = field(default_factory=list)
    """Videos that the JSON file does not name."""
    without_media: list[str] = field(default_factory=list)
    """Names in the JSON file that are not in the folder."""


def write_prompt(folder: Path, prompt: str, *, images: bool = False, existing: Existing = "refuse") -> CaptionReport:
    """Give every video (or image) the same caption, as upstream's example datasets have it.

    Args:
        folder: the dataset.
        prompt: the caption.
        images: caption `images/` instead of the videos.
        existing: what to do with other captions.

    Raises:
        UserError: the prompt is empty or a file, there is nothing to caption, or captions would have to be replaced.
    """
    if not prompt.strip():
        raise UserError("--prompt is empty; say what the videos show")
    if os.path.isfile(prompt):
        raise UserError(f"--prompt {prompt} is a file; give the words themselves, or captions by name with --from-json")
    media = find_media(folder, images=images)
    return _write(folder, dict.fromkeys(media, prompt), list(media), existing=existing)


def write_captions(folder: Path, file: Path, *, images: bool = False, existing: Existing = "refuse") -> CaptionReport:
    """Give every video (or image) the caption that a JSON file has for it.

    Args:
        folder: the dataset.
        file: see `read_captions`.
        images: caption `images/` instead of the videos.
        existing: what to do with other captions.

    Raises:
        UserError: the file is no such JSON, there is nothing to caption, or captions would have to be replaced.
    """
    media = find_media(folder, images=images)
    names = {path.name: stem for stem, path in media.items()}
    # Names may be file names, and stems may hold dots: only a suffix that a file really has is one.
    captions = {names.get(name, name): caption for name, caption in read_captions(file).items()}
    return _write(folder, captions, list(media), existing=existing)


def read_captions(file: Path) -> dict[str, str]:
    """Read captions by name: an object {"NAME": "caption"}, or a list of objects with `name` and `caption`.

    One object per line (JSON Lines) serves as well as a list. Names are stems or file names.

    Raises:
        UserError: it is something else; the message says where.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--from-json {file} cannot be read: {error}") from error
    try:
        content = json.loads(text)
    except json.JSONDecodeError as whole:
        try:
            content = [json.loads(line) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError:
            raise UserError(f"--from-json {file} is not JSON: {whole}") from whole
    if isinstance(content, Mapping) and not ("name" in content and "caption" in content):
        rows = [{"name": name, "caption": caption} for name, caption in content.items()]
    else:
        rows = content if isinstance(content, list) else [content]
    captions: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        name, caption = _row(row, f"--from-json {file}, entry {number}")
        if captions.setdefault(name, caption) != caption:
            raise UserError(f"--from-json {file} has two captions for {name}; remove one")
    return captions


def _row(row: Any, where: str) -> tuple[str, str]:
    name, caption = (row.get("name"), row.get("caption")) if isinstance(row, Mapping) else (None, None)
    if not isinstance(name, str) or not isinstance(caption, str):
        raise UserError(
            f'{where} has no name and caption; expected {{"NAME": "caption", ...}} or {{"name", "caption"}}'
        )
    if not name or "/" in name or "\\" in name:
        raise UserError(f"{where}: {name!r} is not a file name; give the name without folders")
    if not caption.strip():
        raise UserError(f"{where}: the caption of {name} is empty")
    return name, caption


def _write(folder: Path, captions: Mapping[str, str], stems: list[str], *, existing: Existing) -> CaptionReport:
    report = CaptionReport(without_media=sorted(captions.keys() - set(stems)))
    report.without_caption = [stem for stem in stems if stem not in captions and not _file(folder, stem).is_file()]
    todo: list[str] = []
    for stem in (stem for stem in stems if stem in captions):
        found = _found(_file(folder, stem))
        if found == captions[stem].strip():
            report.same.append(stem)
        elif found and existing != "replace":
            report.different.append(stem)
        else:
            todo.append(stem)
    if report.different and existing == "refuse":
        raise UserError(
            f"{len(report.different)} of {len(stems)} files in {folder} have another caption already "
            f"({_some(f'metas/{stem}.txt' for stem in report.different)}); nothing was written: "
            "give --overwrite to replace these captions, or --keep to keep them"
        )
    (folder / "metas").mkdir(exist_ok=True)
    remove_debris(folder / "metas")
    for stem in todo:
        write_text(_file(folder, stem), captions[stem].strip() + "\n")
        report.written.append(stem)
    return report


def _file(folder: Path, stem: str) -> Path:
    return folder / "metas" / f"{stem}.txt"


def _found(file: Path) -> str:
    return file.read_text(encoding="utf-8-sig", errors="replace").strip() if file.is_file() else ""


def _some(names: Iterable[str]) -> str:
    first, *rest = names
    return f"{first} and {len(rest)} more" if rest else first

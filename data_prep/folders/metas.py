"""Captions in upstream's layout: `metas/NAME.txt` beside `videos/NAME.mp4` or `images/NAME.jpg`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cosmos_nemo.errors import UserError
from cosmos_nemo.files import remove_debris, write_text
from data_prep.folders.layout import find_media


@dataclass(kw_only=True)
class CaptionReport:
    """What became of each name; every name of the folder and of the source is in one list."""

    written: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)  # was there, with the same text
    different: list[str] = field(default_factory=list)  # was there with another text, and stays
    without_caption: list[str] = field(default_factory=list)  # a video that the JSON does not name
    without_media: list[str] = field(default_factory=list)  # named in the JSON, but not there


def write_prompt(folder: Path, prompt: str, *, images: bool = False, overwrite: bool = False) -> CaptionReport:
    """Give every video (or image) the same caption, as upstream's example datasets have it.

    Raises:
        UserError: the prompt is empty, or there is nothing to caption.
    """
    if not prompt.strip():
        raise UserError("--prompt is empty; say what the videos show")
    media = find_media(folder, images=images)
    return _write(folder, dict.fromkeys(media, prompt), list(media), overwrite=overwrite)


def write_captions(folder: Path, file: Path, *, images: bool = False, overwrite: bool = False) -> CaptionReport:
    """Give every video (or image) the caption that a JSON file has for it.

    Args:
        folder: the dataset.
        file: see `read_captions`.
        images: caption `images/` instead of the videos.
        overwrite: replace captions that say something else.

    Raises:
        UserError: the file is no such JSON, or there is nothing to caption.
    """
    media = find_media(folder, images=images)
    names = {path.name: stem for stem, path in media.items()}
    # Names may be file names, and stems may hold dots: only a suffix that a file really has is one.
    captions = {names.get(name, name): caption for name, caption in read_captions(file).items()}
    return _write(folder, captions, list(media), overwrite=overwrite)


def read_captions(file: Path) -> dict[str, str]:
    """Read captions by name: an object {"NAME": "caption"}, or a list of objects with `name` and `caption`.

    A line each (JSON Lines) is as good as a list. Names are stems or file names.

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
            raise UserError(f"--from-json {file} has two captions for {name}; leave one")
    return captions


def _row(row: Any, where: str) -> tuple[str, str]:
    name, caption = (row.get("name"), row.get("caption")) if isinstance(row, Mapping) else (None, None)
    if not isinstance(name, str) or not isinstance(caption, str):
        raise UserError(
            f'{where} has no name and caption; expected {{"NAME": "caption", ...}} or {{"name", "caption"}}'
        )
    if not name or "/" in name or "\\" in name:
        raise UserError(f"{where}: {name!r} is no file name; give the name without folders")
    if not caption.strip():
        raise UserError(f"{where}: the caption of {name} is empty")
    return name, caption


def _write(folder: Path, captions: Mapping[str, str], stems: list[str], *, overwrite: bool) -> CaptionReport:
    report = CaptionReport(without_media=sorted(captions.keys() - set(stems)))
    (folder / "metas").mkdir(exist_ok=True)
    remove_debris(folder / "metas")
    for stem in stems:
        file = folder / "metas" / f"{stem}.txt"
        if stem not in captions:
            if not file.is_file():
                report.without_caption.append(stem)
            continue
        caption = captions[stem].strip()
        found = file.read_text(encoding="utf-8-sig", errors="replace").strip() if file.is_file() else None
        if found == caption:
            report.kept.append(stem)
        elif found and not overwrite:
            report.different.append(stem)
        else:
            write_text(file, caption + "\n")
            report.written.append(stem)
    return report

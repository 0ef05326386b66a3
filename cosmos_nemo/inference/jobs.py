"""The videos that one command generates: their inputs and the files to write."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmos_nemo.errors import UserError
from cosmos_nemo.inference.autoregressive_options import AutoregressiveOptions


@dataclass(frozen=True, kw_only=True)
class Job:
    """One video to generate.

    Attributes:
        input: image or video that it continues.
        prompt: what should be seen; None without text.
        output: mp4 to write.
        strip: PNG to write, or None.
        comparison: mp4 to write that plays the strip's rows, or None.
    """

    input: Path
    prompt: str | None
    output: Path
    strip: Path | None
    comparison: Path | None


def make_jobs(options: AutoregressiveOptions) -> list[Job]:
    """Return the videos that the options ask for, with a name for every file.

    For several inputs `--output`, `--strip` and `--comparison` name folders, in which files are named after the
    inputs, with a number where two have one name.

    Raises:
        UserError: the batch file is unreadable, an input is missing, or an output has an unsuitable name.
    """
    inputs = _inputs(options)
    several = len(inputs) > 1 or options.batch_input is not None
    stems = _unique([path.stem for path, _ in inputs])
    jobs = []
    for (path, prompt), stem in zip(inputs, stems, strict=True):
        place = {
            name: _place(name, getattr(options, name), stem, suffix, several=several)
            for name, suffix in (("output", ".mp4"), ("strip", ".png"), ("comparison", ".mp4"))
        }
        jobs.append(Job(input=path, prompt=prompt, **place))  # type: ignore[arg-type]
    return jobs


def _inputs(options: AutoregressiveOptions) -> list[tuple[Path, str | None]]:
    """Return every input with its prompt."""
    if options.batch_input is None:
        return [(path, options.prompt) for path in options.input]
    inputs = []
    for number, line in enumerate(options.batch_input.read_text().splitlines(), start=1):
        if line.strip():
            inputs.append(_input_of_line(options, line, f"{options.batch_input}, line {number}"))
    if not inputs:
        raise UserError(f"--batch-input {options.batch_input} holds no line; write one line of JSON per video.")
    return inputs


def _input_of_line(options: AutoregressiveOptions, line: str, where: str) -> tuple[Path, str | None]:
    """Parse one line of the batch file: input and prompt."""
    try:
        entry: Any = json.loads(line)
    except ValueError as error:
        raise UserError(f'{where} is not JSON ({error}); write {{"visual_input": "video.mp4"}}.') from error
    named = (entry.get("visual_input") or entry.get("input")) if isinstance(entry, dict) else None
    if not isinstance(named, str):
        raise UserError(f'{where} names no input; write {{"visual_input": "video.mp4"}}.')
    assert options.batch_input is not None
    path = Path(named).expanduser()
    if not path.is_file():
        path = options.batch_input.parent / path
    if not path.is_file():
        raise UserError(f"{where}: {named} exists neither here nor beside that file.")
    return path, entry.get("prompt") or options.prompt


def _place(name: str, target: Path | None, stem: str, suffix: str, *, several: bool) -> Path | None:
    """Return where a file of one video goes."""
    if target is None:
        return None
    if several and target.suffix:
        raise UserError(f"--{name} {target}: several videos go into a folder; omit the suffix {target.suffix}.")
    if several or target.is_dir():
        return target / f"{stem}{suffix}"
    if target.suffix.lower() != suffix:
        raise UserError(f"--{name} {target}: end the name with {suffix}.")
    return target


def _unique(stems: Sequence[str]) -> list[str]:
    """Return the names, with a number added to each that has occurred before."""
    seen: Counter[str] = Counter()
    unique = []
    for stem in stems:
        unique.append(f"{stem}_{seen[stem]}" if seen[stem] else stem)
        seen[stem] += 1
    return unique

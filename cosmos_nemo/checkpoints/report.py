"""Compares the keys and shapes of a state dict with what a model needs, in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from cosmos_nemo.checkpoints.published import outline
from cosmos_nemo.checkpoints.shapes import infer_config
from cosmos_nemo.errors import UserError
from cosmos_nemo.families import family_of_keys

_BLOCK_NUMBER = re.compile(r"(?<=blocks\.|layers\.)(\d+)(?=\.)")


def check_published(
    state: Mapping[str, Tensor], *, expected: Mapping[str, tuple[int, ...]], model_fields: Mapping[str, Any]
) -> None:
    """Raise unless `state` has exactly the expected names and shapes.

    Args:
        state: prefix-free published weights.
        expected: published name -> shape that the model needs.
        model_fields: the model's config, to say first that the file is of another size.

    Raises:
        UserError: first line: the difference in size if there is one, else how many keys are wrong; then every
            missing, unexpected and wrong-shape key, equal lines of different blocks folded into one.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in outline(state).items()}
    if shapes == dict(expected):
        return
    sizes = _size_differences(state, model_fields)
    headline, remedy = "The checkpoint does not fit the model", ""
    if sizes:
        headline = f"The checkpoint is of another model: {'; '.join(sizes)}"
        remedy = "Choose the recipe of its size"
    else:
        foreign = family_of_keys(state).foreign
        remedy = next((text for start, text in foreign.items() if any(name.startswith(start) for name in state)), "")
    check(found=shapes, expected=expected, headline=headline, remedy=remedy)


def check(
    *, found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], headline: str, remedy: str = ""
) -> None:
    """Raise unless names and shapes agree exactly.

    Args:
        found: name -> shape in the checkpoint.
        expected: name -> shape that the model needs.
        headline: begins the message.
        remedy: what to do, a sentence without its full stop.

    Raises:
        UserError: the headline and counts on the first line, then every missing, unexpected and wrong-shape name.
    """
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    shapes = {
        name: f"{list(found[name])} in the checkpoint, {list(shape)} in the model"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    }
    if not (missing or unexpected or shapes):
        return
    counts = f"{len(missing)} missing, {len(unexpected)} unexpected, {len(shapes)} of another shape"
    lines = [f"{headline} ({counts})." + (f" {remedy}." if remedy else "")]
    lines += [f"  missing: {text}" for text in fold(missing)]
    lines += [f"  unexpected: {text}" for text in fold(unexpected)]
    lines += [f"  shape: {text}" for text in fold(shapes, shapes)]
    raise UserError("\n".join(lines))


def fold(names: Iterable[str], details: Mapping[str, str] | None = None) -> list[str]:
    """Names with their block numbers folded: `blocks.{0-27}.mlp.layer1.weight`; lines with other details stay apart."""
    groups: dict[tuple[str, str], list[int]] = {}
    for name in names:
        match = _BLOCK_NUMBER.search(name)
        pattern = _BLOCK_NUMBER.sub("{}", name, count=1)
        detail = f" ({details[name]})" if details else ""
        groups.setdefault((pattern, detail), []).append(int(match[1]) if match else -1)
    return [
        (pattern.replace("{}", _ranges(numbers), 1) if "{}" in pattern else pattern) + detail
        for (pattern, detail), numbers in groups.items()
    ]


def compress(names: Iterable[str]) -> str:
    """The folded names on one line."""
    return ", ".join(fold(names))


def _ranges(numbers: list[int]) -> str:
    """`3` for one number, `{0-3,7}` for several."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    text = ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
    return text if len(numbers) == 1 else "{" + text + "}"


def _size_differences(state: Mapping[str, Tensor], model_fields: Mapping[str, Any]) -> list[str]:
    """Size fields that differ between the file and the model; empty if the file's size cannot be told."""
    try:
        found = infer_config(state)
    except UserError:
        return []
    return [
        f"{label} {_word(found[field])} in the file, {_word(model_fields[field])} in the recipe"
        for field, label in family_of_keys(state).size_fields.items()
        if field in model_fields and found[field] != model_fields[field]
    ]


def _word(value: Any) -> str:
    """Yes and no instead of True and False."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)

"""Compares the keys and shapes of a state dict with what a model needs, in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from cosmos_nemo.checkpoints.published import outline
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.architecture import Architecture

_BLOCK_NUMBER = re.compile(r"(?<=blocks\.|layers\.)(\d+)(?=\.)")


def check_published(state: Mapping[str, Tensor], architecture: Architecture) -> None:
    """Raise unless `state` has exactly the names and shapes of a network.

    Args:
        state: Prefix-free published weights of its family. What the family lets files hold besides may be there.
        architecture: The network.

    Raises:
        UserError: First line: the difference in size if there is one, else how many keys are wrong; then every
            missing, unexpected and wrong-shape key, equal lines of different blocks folded into one.
    """
    names = architecture.family.names
    expected = architecture.published_shapes(names.naming(state))
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in outline(state).items()
        if name in expected or not names.spare.fullmatch(name)
    }
    if shapes == expected:
        return
    sizes = _size_differences(state, architecture)
    if sizes:
        headline = f"The checkpoint is of another model: {'; '.join(sizes)}"
        remedy = "Choose the recipe of its size"
    else:
        headline, kinds = "The checkpoint does not fit the model", names.unsupported.items()
        remedy = next((text for start, text in kinds if any(name.startswith(start) for name in state)), "")
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


def _size_differences(state: Mapping[str, Tensor], architecture: Architecture) -> list[str]:
    """Size fields that differ between the file and the model; empty if the file's size cannot be told."""
    family, fields = architecture.family, architecture.fields
    try:
        found = family.names.infer(outline(state), like=fields)
    except UserError:
        return []
    return [
        f"{label} {_word(found[field])} in the file, {_word(fields[field])} in the recipe"
        for field, label in family.size_fields.items()
        if field in fields and found[field] != fields[field]
    ]


def _word(value: Any) -> str:
    """Yes and no instead of True and False."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)

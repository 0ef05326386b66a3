"""The options of each family of networks, by its name. Imports no torch: a command shows them in its help text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from cosmos_nemo.errors import UserError
from cosmos_nemo.inference.autoregressive_options import AutoregressiveOptions
from cosmos_nemo.inference.diffusion_options import DiffusionOptions
from cosmos_nemo.inference.options import CommonOptions
from cosmos_nemo.options import flag

OPTIONS: Mapping[str, type[CommonOptions]] = {"predict2": DiffusionOptions, "autoregressive": AutoregressiveOptions}


def make_options(family: str, *, input: tuple[Path, ...] = (), **choices: Any) -> CommonOptions:
    """Return the options of a family.

    Args:
        family: a key of `OPTIONS`.
        input: what the videos begin with.
        **choices: fields of the options; None leaves a choice to the family.

    Raises:
        UserError: the family does not have a choice, one that it needs is missing, or a value is wrong.
    """
    kind = OPTIONS[family]
    given = {name: value for name, value in choices.items() if value is not None}
    known = {field.name: field for field in fields(kind)}
    if foreign := [flag(name) for name in given if name not in known]:
        raise UserError(f"{', '.join(foreign)} does not apply to {family} models; omit it, or use another checkpoint.")
    for name, field in known.items():
        if field.default is MISSING and name not in given:
            raise UserError(f"{flag(name)} is missing; {family} models need it.")
    if issubclass(kind, AutoregressiveOptions):
        return kind(**given, input=tuple(input))
    if len(input) > 1:
        raise UserError("A diffusion model takes one --input at a time; run the command once for each.")
    assert issubclass(kind, DiffusionOptions)
    return kind(**given, input=input[0] if input else None)

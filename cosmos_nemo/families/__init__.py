"""The families of networks this project knows, and telling to which one weights or a model belong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cosmos_nemo.errors import UserError
from cosmos_nemo.families.autoregressive import AUTOREGRESSIVE
from cosmos_nemo.families.family import Family
from cosmos_nemo.families.predict2 import PREDICT2

FAMILIES: tuple[Family, ...] = (PREDICT2, AUTOREGRESSIVE)


def family_of_keys(keys: Iterable[str]) -> Family:
    """The family that published weights with these keys belong to; Predict2 if no key tells.

    Args:
        keys: published names, with or without prefix.
    """
    for key in keys:
        for family in FAMILIES:
            if family.recognises.match(key.removeprefix(family.prefix)):
                return family
    return PREDICT2


def family_of_parameters(names: Iterable[str]) -> Family:
    """The family of a model with these parameter names (ours, without wrappers).

    Raises:
        UserError: no family has such parameters.
    """
    names = list(names)
    for family in FAMILIES:
        if any(name.startswith(family.block_prefix) for name in names):
            return family
    raise UserError(f"This is none of this project's networks: no parameter in blocks ({', '.join(names[:4])}, ...).")


def family_of_fields(fields: Mapping[str, Any]) -> Family:
    """The family that a description of a network (of `run.json`) names; Predict2 if it names none.

    Raises:
        UserError: the name is unknown.
    """
    name = fields.get("family", PREDICT2.name)
    for family in FAMILIES:
        if family.name == name:
            return family
    known = ", ".join(family.name for family in FAMILIES)
    raise UserError(f"Unknown family of networks {name!r}; this version knows {known}. Update cosmos-nemo.")

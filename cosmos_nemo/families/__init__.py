"""The families of networks that this project knows, and telling to which one a name, a network or a file belongs.

Nothing here guesses: a config and a run.json name their family, and a published file is recognised by keys that only
one family has. The list below is the only place that imports a family's file.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from cosmos_nemo.errors import UserError
from cosmos_nemo.families.architecture import Architecture
from cosmos_nemo.families.autoregressive import Autoregressive
from cosmos_nemo.families.cosmos_tokenizer import CosmosTokenizer
from cosmos_nemo.families.family import Family
from cosmos_nemo.families.predict2 import Predict2
from cosmos_nemo.runs.record import RunRecord

FAMILIES: tuple[Family, ...] = (Predict2(), Autoregressive(), CosmosTokenizer())
"""Every family, each once."""


def by_name(name: str, *, source: str = "") -> Family:
    """Return the family with a name.

    Args:
        name: As in `Family.name`.
        source: What names it, for the message, such as the path of a run.json.

    Raises:
        UserError: No family has this name; lists those that there are.
    """
    for family in FAMILIES:
        if family.name == name:
            return family
    known = ", ".join(family.name for family in FAMILIES)
    where = f"{source} names the family" if source else "There is no family"
    raise UserError(f"{where} {name!r}; this version of cosmos-nemo knows {known}.")


def of_config(config: Any) -> Family:
    """Return the family that a config is of.

    Raises:
        UserError: Its class names none, or one that this version does not know.
    """
    name = getattr(config, "family", None)
    if name is None:
        raise UserError(
            f"{type(config).__name__} names no family of networks; use a config of one, such as Predict2Config, or "
            "derive a class with `family` from it."
        )
    return by_name(name, source=type(config).__name__)


def of_network(network: nn.Module) -> tuple[Family, Any]:
    """Return the family of a network and its config.

    Args:
        network: A network, possibly inside wrappers of data parallelism or mixed precision.

    Raises:
        UserError: It is none of this project's networks.
    """
    inner: Any = network
    while getattr(getattr(inner, "config", None), "family", None) is None:
        if not hasattr(inner, "module"):
            raise UserError(f"{type(network).__name__} is none of this project's networks: no config names its family.")
        inner = inner.module
    return of_config(inner.config), inner.config


def of_published(keys: Iterable[str], *, source: str = "The state dict") -> Family:
    """Return the family that published weights belong to, by keys that only one family has.

    Args:
        keys: Published names, with or without prefix.
        source: Where they are from, for messages.

    Raises:
        UserError: They are of no family, of several, or of a kind of network that this version does not know.
    """
    keys = list(keys)
    found = [family for family in FAMILIES if family.names.have(keys)]
    strangers = {family: family.names.stranger(keys) for family in found}
    matching = [family for family in found if strangers[family] is None]
    if len(matching) == 1:
        return matching[0]
    if matching:
        titles = " and ".join(family.title for family in matching)
        raise UserError(f"{source} holds keys of several families of networks: {titles}; keep one network per file.")
    titles = ", ".join(family.title for family in FAMILIES)
    shown = ", ".join(keys[:4]) + (", ..." if len(keys) > 4 else "")
    kind = next((words for words in strangers.values() if words), None)
    what = f"is {kind}, which this version does not know" if kind else "is none of this version's networks"
    raise UserError(f"{source} {what}: it knows {titles} (keys found: {shown or 'none'}).")


def architecture_of(config: Any) -> Architecture:
    """Return the part of a config that the network's weights depend on.

    Raises:
        UserError: See `of_config`.
    """
    family = of_config(config)
    return Architecture(family=family, fields=family.describe(config))


def recorded(run: RunRecord, *, source: str) -> Architecture:
    """Return the network that a run trained.

    Args:
        run: What its run.json says.
        source: The path of that file, for messages.

    Raises:
        UserError: This version does not know its family.
    """
    family = by_name(run.family, source=source)
    return Architecture(family=family, fields={name: run.model[name] for name in family.fields if name in run.model})

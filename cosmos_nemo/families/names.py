"""What the published weights of a family are called, and which tensors of them make up a network.

A family's names are one subclass of `Names` in a file of its own; import, export, verification and recognition work
from it.
"""

from __future__ import annotations

import abc
import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from cosmos_nemo.errors import UserError
from cosmos_nemo.families.adapter_names import INJECTED, AdapterPattern
from cosmos_nemo.families.rows import Naming, Row, Shape, our_shape

_IGNORED_ANYWHERE = re.compile(r"(.*\.)?_extra_state")
"""Transformer Engine's state: in files of every family, and no weights."""


class Names(abc.ABC):
    """The published names of a family's tensors."""

    prefix: str = ""
    """Of every key in the original published files."""
    ema_prefix: str | None = None
    """Of the averaged copy in post-training files; None where upstream keeps none in the same file."""
    marks: re.Pattern[str]
    """Begins a prefix-free published key that no other family has."""
    strange: Mapping[str, str] = {}
    """Beginnings of keys that show a network to be of another kind although it has the `marks`, and what it is."""
    unsupported: Mapping[str, str] = {}
    """Beginnings of keys that networks of this family have and this project does not know, and what they mean."""
    ignored: re.Pattern[str] = re.compile("(?!)")
    """Matches prefix-free keys of buffers that hold no weights."""
    spare: re.Pattern[str] = re.compile("(?!)")
    """Matches prefix-free keys that are left out where the network does not have them: some files hold more."""
    adapters: AdapterPattern = INJECTED
    """What files with network and adapters call the adapters."""
    adapter_alpha: float | None = None
    """The alpha of adapters that upstream's tools take where nothing else is said; their files do not hold it."""
    in_parts: bool = False
    """Whether upstream cuts these networks into a file per tensor-parallel rank; see `cut_of`."""

    @abc.abstractmethod
    def rows(self, fields: Mapping[str, Any]) -> tuple[Row, ...]:
        """Return the name table of the network that config fields describe, in the order of our parameters."""

    @abc.abstractmethod
    def sizes(self, fields: Mapping[str, Any]) -> dict[str, int]:
        """Return the values of the symbols in `Row.shapes`; K is the width of an attention head."""

    @abc.abstractmethod
    def infer(self, state: Mapping[str, Tensor], *, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the config fields that prefix-free published weights fix; only shapes are read.

        Args:
            state: Tensors by name.
            like: Fields of the network that is expected; it decides where the tensors leave a choice.

        Raises:
            UserError: A tensor that fixes a size is missing or has an impossible shape.
        """

    def cut_of(self, name: str) -> int | None:
        """Return the dimension along which tensor-parallel files cut a tensor; None for one that all of them hold.

        Args:
            name: Prefix-free published name.

        Raises:
            UserError: No tensor of these networks has this name.
        """
        raise NotImplementedError(f"{type(self).__name__} has no tensor-parallel files")

    def check_parts(self, fields: Mapping[str, Any], size: int) -> None:
        """Raise unless a network can be cut into `size` tensor-parallel files.

        Raises:
            UserError: Names what does not divide and the legal sizes.
        """
        raise NotImplementedError(f"{type(self).__name__} has no tensor-parallel files")

    def diffusers_config(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the `config.json` with which diffusers builds the same network.

        Raises:
            UserError: Diffusers has no such network.
        """
        raise UserError("There are no diffusers names for this family of networks; use original.")

    def bare(self, key: str) -> str:
        """Return a key without the prefix of plain or averaged weights."""
        for prefix in (self.ema_prefix, self.prefix):
            if prefix and key.startswith(prefix):
                return key.removeprefix(prefix)
        return key

    def have(self, keys: Iterable[str]) -> bool:
        """Return whether published keys, with or without prefix, are of this family by its marks."""
        return any(self.marks.match(self.bare(key)) for key in keys)

    def stranger(self, keys: Iterable[str]) -> str | None:
        """Return what a network with these keys is, if it is of another kind although it has the marks."""
        bare = [self.bare(key) for key in keys]
        return next((words for start, words in self.strange.items() if any(k.startswith(start) for k in bare)), None)

    def naming(self, keys: Iterable[str]) -> Naming:
        """Return which of the family's published vocabularies prefix-free keys use."""
        return Naming.ORIGINAL

    def take(self, state: Mapping[str, Any], *, ema: bool, source: str) -> dict[str, Tensor]:
        """Return the network in a flat published state dict, without prefix and without the ignored buffers.

        Taking it twice changes nothing.

        Args:
            state: Published keys, with or without prefix.
            ema: Take the averaged weights instead of the plain ones.
            source: Where the state is from, for messages.

        Raises:
            UserError: `ema` is asked for and there are no averaged weights, or a value is not a tensor.
        """
        if ema and not (self.ema_prefix and any(key.startswith(self.ema_prefix) for key in state)):
            prefix = f": no key begins with '{self.ema_prefix}'" if self.ema_prefix else ""
            raise UserError(f"{source} holds no averaged (EMA) weights{prefix}; ask for the plain weights.")
        wanted, other = self.prefix, self.ema_prefix
        if ema and other:
            wanted, other = other, wanted
        network: dict[str, Tensor] = {}
        for key, value in state.items():
            name = key.removeprefix(wanted)
            if (other and key.startswith(other)) or self.ignores(name):
                continue
            if not isinstance(value, Tensor):
                raise UserError(
                    f"{source}: '{key}' is a {type(value).__name__}, not a tensor; this is not a state dict."
                )
            if name in network:
                raise UserError(f"{source} holds '{name}' twice, with and without the prefix '{wanted}'; keep one.")
            network[name] = value
        return network

    def ignores(self, name: str) -> bool:
        """Return whether a prefix-free key is that of a buffer without weights."""
        return bool(_IGNORED_ANYWHERE.fullmatch(name) or self.ignored.fullmatch(name))

    def published_shapes(self, fields: Mapping[str, Any], naming: Naming) -> dict[str, Shape]:
        """Return the shape of every published tensor of a network, by prefix-free name."""
        sizes = self.sizes(fields)
        return {
            name: shape
            for row in self.rows(fields)
            for name, shape in zip(row.published(naming), row.published_shapes(sizes), strict=True)
        }

    def our_shapes(self, fields: Mapping[str, Any]) -> dict[str, Shape]:
        """Return the full shape of each of our parameters of a network, by our name."""
        sizes = self.sizes(fields)
        return {row.ours: our_shape(row.layout, row.published_shapes(sizes)) for row in self.rows(fields)}

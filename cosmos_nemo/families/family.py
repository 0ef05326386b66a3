"""What the commands have to know about a family of networks: names, sizes, and how its network is built.

A family is described in one file (`predict2.py`, `autoregressive.py`) and listed in `families.py`; whatever moves
weights works from the description.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from cosmos_nemo.families.rows import Naming, Row, Shape, our_shape


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of networks with the same names.

    Attributes:
        name: written to `run.json`.
        title: in messages.
        prefix: of every key in the original published files.
        ema_prefix: of the averaged copy in post-training files; None where upstream has none.
        recognises: finds a prefix-free published key that only this family has.
        table: the rows of the network that config fields describe.
        network_sizes: values of the symbols in `Row.shapes`, from config fields.
        infer: config fields that the shapes of prefix-free published weights fix.
        fields: config fields that describe the network, as against how it is run.
        unstored: those of them that no published file holds; a named size knows them.
        unstored_words: what they are, in words.
        named: the named sizes, name -> config class; imports the model's room when called.
        make_config: a config from fields and parallel sizes; imports the model's room when called.
        make_model: the network of a config in the current model-parallel world.
        task_of: what the network with these fields is for.
        size_fields: fields that tell one size from another, and their names in messages.
        foreign: beginnings of keys of known other variants, and what to say about them.
        block_prefix: what our parameters in blocks begin with, before the number.
        cut_of: dimension along which upstream's tensor-parallel files hold a part of a published tensor, None for those
            that every file holds; None where upstream writes no such files.
    """

    name: str
    title: str
    prefix: str
    ema_prefix: str | None
    recognises: re.Pattern[str]
    table: Callable[[Mapping[str, Any]], tuple[Row, ...]]
    network_sizes: Callable[[Mapping[str, Any]], dict[str, int]]
    infer: Callable[[Mapping[str, Tensor], Naming], dict[str, Any]]
    fields: tuple[str, ...]
    unstored: tuple[str, ...]
    unstored_words: str
    named: Callable[[], Mapping[str, type]]
    make_config: Callable[..., Any]
    make_model: Callable[[Any], nn.Module]
    task_of: Callable[[Mapping[str, Any]], str]
    size_fields: Mapping[str, str]
    foreign: Mapping[str, str] = field(default_factory=dict)
    block_prefix: str
    cut_of: Callable[[str], int | None] | None = None

    def published_shapes(self, fields: Mapping[str, Any], naming: Naming) -> dict[str, Shape]:
        """Shape of every published tensor of the network that `fields` describe, by prefix-free name."""
        sizes = self.network_sizes(fields)
        return {
            name: shape
            for row in self.table(fields)
            for name, shape in zip(row.published(naming), row.published_shapes(sizes), strict=True)
        }

    def our_shapes(self, fields: Mapping[str, Any]) -> dict[str, Shape]:
        """Full shape of each of our parameters of the network that `fields` describe, by our name."""
        sizes = self.network_sizes(fields)
        return {row.ours: our_shape(row.layout, row.published_shapes(sizes)) for row in self.table(fields)}

    def unstored_fields(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The `unstored` fields of the named size that has these fields; empty if none has."""
        for make in self.named().values():
            config = make()
            if all(getattr(config, name) == value for name, value in fields.items()):
                return {name: getattr(config, name) for name in self.unstored}
        return {}

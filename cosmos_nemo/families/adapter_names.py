"""What the adapters of a network are called, here and in published files: derived from the family's name table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from cosmos_nemo.families.rows import Naming, Row, Shape
from cosmos_nemo.models.common.lora import LoRA, block_of
from cosmos_nemo.models.common.parts import short_name


@dataclass(frozen=True, kw_only=True)
class AdapterPattern:
    """How files of one kind call the tensors of an adapted linear map; `{}` stands for the map's own name."""

    weight: str = "{}.weight"
    """Its weight in files without adapters: what the name table has."""
    base: str
    """Its weight in files with adapters."""
    down: str
    """A, [rank, in]."""
    up: str
    """B, [out, rank]."""

    def names_of(self, weight: str) -> tuple[str, str, str]:
        """Return what files of the kind call the weight, A and B of the map with this weight."""
        name = _fill(self.weight, weight)
        assert name is not None, f"{weight} is not of the form {self.weight}"
        return self.base.format(name), self.down.format(name), self.up.format(name)

    def matrix(self, key: str) -> tuple[str, str] | None:
        """Return whose matrix a key is, as the map's weight, and which one, A or B; None of any other tensor."""
        for which, form in (("A", self.down), ("B", self.up)):
            name = _fill(form, key)
            if name is not None:
                return self.weight.format(name), which
        return None


def _fill(form: str, text: str) -> str | None:
    """What `{}` of a form stands for in a text of that form."""
    before, after = form.split("{}")
    fits = text.startswith(before) and text.endswith(after) and len(text) > len(before) + len(after)
    return text[len(before) : len(text) - len(after)] if fits else None


INJECTED = AdapterPattern(base="{}.base_layer.weight", down="{}.lora_A.default.weight", up="{}.lora_B.default.weight")
"""Network and adapters in one state dict, after PEFT has put adapters into it: what Cosmos-Predict2 saves."""

PEFT = AdapterPattern(base="{}.weight", down="{}.lora_A.weight", up="{}.lora_B.weight")
"""Adapters alone, as PEFT saves them."""

PEFT_PREFIX = "base_model.model."
"""Of every key in such a file."""


@dataclass(frozen=True, kw_only=True)
class AdaptedMap:
    """One linear map that has an adapter."""

    layer: str
    """Path of our layer that computes it."""
    part: str
    """Our name of it."""
    weight: str
    """Published name of its weight, without prefix."""
    shape: Shape
    """Of its weight, [out, in]."""

    @property
    def block(self) -> int:
        """Number of the block that it is in."""
        return block_of(self.layer)

    @property
    def ours(self) -> str:
        """What our names of its two matrices begin with."""
        return f"{self.layer}.adapters.{short_name(self.part)}"

    def our_shapes(self, rank: int) -> dict[str, Shape]:
        """Return the full shapes of its two matrices, by our name."""
        return {f"{self.ours}.{name}": shape for name, shape in self._shapes(rank)}

    def published_shapes(self, rank: int, pattern: AdapterPattern) -> dict[str, Shape]:
        """Return the shapes of its two matrices by the names that files of a kind have, without prefix."""
        _, *names = pattern.names_of(self.weight)
        return {name: shape for name, (_, shape) in zip(names, self._shapes(rank), strict=True)}

    def _shapes(self, rank: int) -> tuple[tuple[str, Shape], tuple[str, Shape]]:
        outputs, inputs = self.shape
        return ("lora_A", (rank, inputs)), ("lora_B", (outputs, rank))


def adapted_maps(
    rows: Iterable[Row], sizes: Mapping[str, int], lora: LoRA, naming: Naming = Naming.ORIGINAL
) -> Iterator[AdaptedMap]:
    """Yield every linear map that has an adapter, in the order of the name table.

    Args:
        rows: the network's name table.
        sizes: what the symbols in its shapes stand for.
        lora: which maps are adapted.
        naming: which published names.
    """
    for row in rows:
        for part, weight, shape in zip(row.parts, row.published(naming), row.published_shapes(sizes), strict=False):
            if lora.adapts(part, block_of(row.ours)):
                yield AdaptedMap(layer=row.ours.removesuffix(".weight"), part=part, weight=weight, shape=shape)

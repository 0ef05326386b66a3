"""A network as its weights see it: a family, and the values of the fields that the weights depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cosmos_nemo.errors import UserError
from cosmos_nemo.families.adapter_names import AdaptedMap, adapted_maps
from cosmos_nemo.families.family import Family
from cosmos_nemo.families.rows import Naming, Row, Shape
from cosmos_nemo.models.common.lora import LoRA
from cosmos_nemo.runs.record import differences


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Which network it is, whoever runs it and how."""

    family: Family
    fields: Mapping[str, Any]
    """Values of `family.fields`, as far as they are known; ready for JSON."""

    @property
    def task(self) -> str:
        """What the network is for."""
        return self.family.task_of(self.fields)

    @property
    def words(self) -> str:
        """The network in a few words, for messages."""
        return self.family.words(self.fields)

    @property
    def unknown(self) -> list[str]:
        """Fields that a published file does not hold and nothing else told."""
        return [name for name in self.family.unstored if name not in self.fields]

    @property
    def rows(self) -> tuple[Row, ...]:
        """The name table of the network."""
        return self.family.names.rows(self.fields)

    def published_shapes(self, naming: Naming) -> dict[str, Shape]:
        """Return the shape of every published tensor, by prefix-free name."""
        return self.family.names.published_shapes(self.fields, naming)

    def our_shapes(self) -> dict[str, Shape]:
        """Return the full shape of each of our parameters, by our name."""
        return self.family.names.our_shapes(self.fields)

    def adapted(self, lora: LoRA | None = None, naming: Naming = Naming.ORIGINAL) -> list[AdaptedMap]:
        """Return the linear maps that settings of adapters mean; without any, all that can be adapted."""
        return list(adapted_maps(self.rows, self.family.names.sizes(self.fields), lora or LoRA(), naming))

    def require_known(self) -> None:
        """Raise unless the network can be built from what is known.

        Raises:
            UserError: The weights are of no named size, and published files do not hold everything.
        """
        if self.unknown:
            raise UserError(
                f"These weights ({self.words}) are of no named size, and a published file does not hold "
                f"{self.family.unstored_words}: use the training checkpoint's folder instead, which does."
            )

    def empty_network(self, *, dtype: torch.dtype, device: torch.device | str = "cpu") -> Any:
        """Return the network in the current model-parallel world, without gradients, its weights still arbitrary.

        Args:
            dtype: Of the parameters, float32 or bfloat16.
            device: Where it is put.

        Raises:
            UserError: A size is missing, or not possible in this world.
        """
        device = torch.device(device)
        config = self.family.make_config(self.fields, dtype=dtype, on_cpu=device.type == "cpu")
        network: nn.Module = self.family.build(config)
        return network.to(device=device, dtype=dtype).eval().requires_grad_(False)

    def differences(self, other: Architecture) -> str:
        """Return how this network, here, differs from another one, there, in words; empty if both are the same.

        Fields that only one of the two knows are left out.
        """
        if self.family is not other.family:
            return f"a {other.family.title} network there, a {self.family.title} one here"
        return differences(other.fields, self.fields)

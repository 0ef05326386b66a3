"""Reads which network it is off the keys and shapes of published weights."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from cosmos_nemo import families
from cosmos_nemo.checkpoints.published import outline, select_network
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.architecture import Architecture


def published_architecture(state: Mapping[str, Tensor], *, ema: bool = False) -> Architecture:
    """Return the network that published weights are of.

    What no published file holds (such as RoPE ratios) is filled in when the size is one of this project's named
    sizes, and left out otherwise; see `Architecture.require_known`.

    Args:
        state: Published weights, original or diffusers names, with or without prefix.
        ema: Look at the averaged copy.

    Raises:
        UserError: They are of no known family, a tensor that fixes a size is missing or has an impossible shape, or
            there are adapters beside them.
    """
    state = select_network(state, ema=ema)
    family = families.of_published(state)
    if any(family.names.adapters.matrix(name) for name in state):
        usual = family.names.adapter_alpha
        hint = f"; {usual:g} is the default upstream" if usual else ""
        raise UserError(
            "The file holds adapters beside the weights and does not say their alpha: make a run of it with "
            f"`cosmos-nemo ckpt import FILE RUN --alpha ALPHA`{hint}."
        )
    fields = family.names.infer(outline(state))
    return Architecture(family=family, fields={**fields, **family.named_like(fields)})

"""Reads a network's size off the shapes of its published weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cosmos_nemo.checkpoints.architecture import FAMILY_FIELD, size_words
from cosmos_nemo.checkpoints.published import detect_naming, outline, select_network
from cosmos_nemo.errors import UserError
from cosmos_nemo.families import family_of_fields, family_of_keys


def infer_config(state: Mapping[str, Tensor], *, ema: bool = False) -> dict[str, Any]:
    """Fields of the network's config that the shapes of published weights fix, and the name of its family.

    What no published file holds (such as RoPE ratios) is filled in when the size is one of this project's named
    sizes, and left out otherwise.

    Args:
        state: published weights, original or diffusers names, with or without prefix.
        ema: look at the averaged copy.

    Returns:
        network-describing fields, see `architecture.build_config`.

    Raises:
        UserError: a tensor that fixes a size is missing or has an impossible shape.
    """
    state = select_network(state, ema=ema)
    family = family_of_keys(state)
    fields = family.infer(outline(state), detect_naming(state))
    return {FAMILY_FIELD: family.name, **fields, **family.unstored_fields(fields)}


def published_architecture(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Network-describing fields of published weights, including what a file does not hold.

    Raises:
        UserError: not one of the named sizes, so that what the file does not hold is unknown.
    """
    fields = infer_config(state)
    family = family_of_fields(fields)
    if any(name not in fields for name in family.unstored):
        raise UserError(
            f"These weights ({size_words(fields)}) are of no named size, and a published file does not hold "
            f"{family.unstored_words}: use the training checkpoint's folder instead, which does."
        )
    return fields

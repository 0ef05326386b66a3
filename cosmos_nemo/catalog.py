"""Names of all recipes. Imports nothing heavy: `cosmos-nemo recipes` prints this table in a blink."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from collections.abc import Callable
from typing import Any

from cosmos_nemo.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One recipe as the list shows it.

    Attributes:
        name: what the user types, `cosmos_<task>_<size>`; also the name of the function.
        module: the module below `recipes` that holds the function.
        description: one line.
    """

    name: str
    module: str
    description: str


ENTRIES: tuple[Entry, ...] = (
    Entry(
        name="cosmos_v2w_tiny",
        module="diffusion",
        description="Predict2 Video2World, 4 layers, for a CPU: try the whole walk in minutes",
    ),
    Entry(
        name="cosmos_v2w_tiny_lora",
        module="diffusion",
        description="Predict2 Video2World, the tiny one: adapters of rank 4 on a frozen network",
    ),
    Entry(
        name="cosmos_v2w_2b",
        module="diffusion",
        description="Predict2 Video2World 2B, 8 GPUs: context parallel 2, data parallel 4",
    ),
    Entry(
        name="cosmos_v2w_14b",
        module="diffusion",
        description="Predict2 Video2World 14B, 8 GPUs of 80 GB: tensor + sequence parallel 8",
    ),
    Entry(
        name="cosmos_t2i_tiny",
        module="diffusion",
        description="Predict2 Text2Image, 4 layers, for a CPU",
    ),
    Entry(
        name="cosmos_t2i_2b",
        module="diffusion",
        description="Predict2 Text2Image 2B, 8 GPUs: data parallel 8",
    ),
    Entry(
        name="cosmos_t2i_14b",
        module="diffusion",
        description="Predict2 Text2Image 14B, 8 GPUs of 80 GB: tensor + sequence parallel 8",
    ),
    Entry(
        name="cosmos_ar_tiny",
        module="autoregressive",
        description="Predict1 autoregressive, 4 layers with the whole vocabulary, for a CPU",
    ),
    Entry(
        name="cosmos_ar_tiny_lora",
        module="autoregressive",
        description="Predict1 autoregressive, the tiny one: adapters of rank 4 on a frozen network",
    ),
    Entry(
        name="cosmos_ar_4b",
        module="autoregressive",
        description="Predict1 autoregressive 4B, 1 GPU of 80 GB: 33 frames at 384x640",
    ),
    Entry(
        name="cosmos_ar_4b_lora",
        module="autoregressive",
        description="Predict1 autoregressive 4B, 1 GPU: adapters of rank 16 on a frozen network",
    ),
    Entry(
        name="cosmos_ar_12b",
        module="autoregressive",
        description="Predict1 autoregressive 12B, 8 GPUs of 80 GB: tensor + sequence parallel 8",
    ),
    Entry(
        name="cosmos_ar_v2w_5b",
        module="autoregressive",
        description="Predict1 autoregressive Video2World 5B with text, 8 GPUs: tensor parallel 4, data parallel 2",
    ),
    Entry(
        name="cosmos_ar_v2w_13b",
        module="autoregressive",
        description="Predict1 autoregressive Video2World 13B with text, 8 GPUs of 80 GB: tensor + sequence parallel 8",
    ),
    Entry(
        name="cosmos_tokenizer_cv_tiny",
        module="tokenizer",
        description="continuous video tokenizer CV4x8x8, narrow, for a CPU",
    ),
    Entry(
        name="cosmos_tokenizer_dv_tiny",
        module="tokenizer",
        description="discrete video tokenizer DV8x16x16, narrow, for a CPU",
    ),
    Entry(
        name="cosmos_tokenizer_cv8x8x8",
        module="tokenizer",
        description="Cosmos video tokenizer CV8x8x8, 106 million parameters, 8 GPUs: data parallel 8",
    ),
    Entry(
        name="cosmos_tokenizer_dv8x16x16",
        module="tokenizer",
        description="Cosmos video tokenizer DV8x16x16, 111 million parameters, 8 GPUs: data parallel 8",
    ),
)

RECIPES: dict[str, Entry] = {entry.name: entry for entry in ENTRIES}


def lookup(name: str) -> Entry:
    """Find a recipe by name.

    Raises:
        UserError: there is no such recipe; the message lists the names.
    """
    if name in RECIPES:
        return RECIPES[name]
    close = difflib.get_close_matches(name, RECIPES, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UserError(f"no recipe '{name}': {hint}recipes are {', '.join(RECIPES)}")


def load(name: str) -> Callable[[], Any]:
    """Return the recipe function; calling it gives a `run.Partial` of `cosmos_nemo.lightning.train.train`.

    Raises:
        UserError: there is no such recipe.
    """
    entry = lookup(name)
    return getattr(importlib.import_module(f"recipes.{entry.module}"), entry.name)


def listing() -> str:
    """The table that the list commands print: one line per recipe, name first."""
    width = max(len(name) for name in RECIPES)
    return "\n".join(f"{entry.name:<{width}}  {entry.description}" for entry in ENTRIES)

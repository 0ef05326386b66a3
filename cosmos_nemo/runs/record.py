"""What run.json says about a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cosmos_nemo.errors import UserError

_FORMER_NAMES = {"diffusion": "predict2", "tokenizer": "cosmos_tokenizer"}
"""What training wrote as the family before families had one name each; there was one family of either kind."""

_FIRST_TASKS = ("video2world", "text2image")
"""Tasks of the runs that were written before run.json named a family: all of them are Predict2's."""


def family_of(run: Mapping[str, Any], *, source: Path) -> str:
    """Return the name of the family of networks that a run.json describes.

    Raises:
        UserError: It names none.
    """
    model = run.get("model") or {}
    name = model.get("family") or run.get("family")
    if name is None and run.get("task") in _FIRST_TASKS:
        return "predict2"
    if not isinstance(name, str):
        raise UserError(f"{source} names no family of networks; restore it from the training run.")
    return _FORMER_NAMES.get(name, name)

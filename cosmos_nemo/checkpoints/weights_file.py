"""Reads the files that weights are published in: torch's `.pt`, `.safetensors`, an index, a folder of them.

Nothing is copied while reading: tensors are views of the memory-mapped file and are paged in when they are used.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cosmos_nemo.errors import UserError

_DAMAGED = (pickle.UnpicklingError, EOFError, OSError, ValueError, KeyError, AttributeError, zipfile.BadZipFile)
"""What a damaged torch file provokes besides RuntimeError."""

WEIGHTS_NAMES = ("diffusion_pytorch_model", "model")
"""Base names of the weights inside a diffusers / Hugging Face folder."""


def read_entries(path: Path) -> Mapping[str, Any]:
    """All entries of a file or folder, by its kind.

    Raises:
        UserError: no such file (what lies beside is listed), not a checkpoint by its name, or damaged.
    """
    if not path.exists():
        raise UserError(f"No checkpoint at {path}{_neighbours(path)}.")
    if path.is_dir():
        return _read_folder(path)
    if path.name.endswith(".index.json"):
        return _read_index(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt"):
        return _read_torch(path)
    raise UserError(f"{path} is not a checkpoint by its name; give a .pt, .pth or .safetensors file, or a folder.")


def _neighbours(path: Path) -> str:
    """What lies beside a path that does not exist, for the error message."""
    parent = path.parent
    if not parent.is_dir():
        return f" (there is no folder {parent} either)"
    names = sorted(child.name for child in parent.iterdir() if not child.name.startswith("."))
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f" (in {parent}: {shown or 'nothing'})"


def _read_folder(path: Path) -> Mapping[str, Any]:
    """A diffusers / Hugging Face folder, or a pipeline folder with a `transformer` subfolder."""
    for folder in (path, path / "transformer"):
        for name in WEIGHTS_NAMES:
            index, single = folder / f"{name}.safetensors.index.json", folder / f"{name}.safetensors"
            if index.is_file():
                return _read_index(index)
            if single.is_file():
                return _read_safetensors(single)
    found = sorted(child.name for child in path.iterdir())
    shown = ", ".join(found[:12]) or "nothing"
    raise UserError(
        f"{path} holds no checkpoint: neither checkpoints/iter_* (training) nor "
        f"{WEIGHTS_NAMES[0]}.safetensors (published); found: {shown}."
    )


def _read_index(index: Path) -> dict[str, Tensor]:
    """All shards that a safetensors index names."""
    try:
        weight_map: dict[str, str] = json.loads(index.read_text())["weight_map"]
    except (ValueError, KeyError) as error:
        raise UserError(f"{index} is not a safetensors index ({error!r}); download it again.") from error
    missing = sorted({name for name in weight_map.values() if not (index.parent / name).is_file()})
    if missing:
        raise UserError(f"{index} names files that are not there: {', '.join(missing)}; download them.")
    state: dict[str, Tensor] = {}
    for name in sorted(set(weight_map.values())):
        state.update(_read_safetensors(index.parent / name))
    absent = sorted(set(weight_map) - set(state))
    if absent:
        raise UserError(f"{index} lists tensors that no shard holds: {', '.join(absent[:8])} ({len(absent)} in all).")
    return state


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of one safetensors file, mapped."""
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _read_torch(path: Path) -> Mapping[str, Any]:
    """A torch file, without running any code in it, mapped if it is in the zip format."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise _unreadable(path, error) from error
        state = _read_legacy_torch(path)
    except _DAMAGED as error:
        raise _unreadable(path, error) from error
    if not isinstance(state, Mapping):
        raise UserError(f"{path} holds a {type(state).__name__}, not a state dict.")
    return state


def _read_legacy_torch(path: Path) -> Any:
    """A file in torch's format from before 1.6, which cannot be mapped."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, *_DAMAGED) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    """The error for a damaged or foreign file."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UserError(
        f"{path} cannot be read ({path.stat().st_size} bytes; truncated or damaged?): {reason.split('. ')[0][:160]}; "
        "copy or download it again."
    )

"""Energon's loader state as plain containers and tensors, so that a checkpoint is read without unpickling classes."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import numpy as np
import torch

_KIND = "__kind__"
_CLASSES = {
    name: f"megatron.energon.{module}"
    for name, module in {
        "SavableDataLoaderState": "savable_loader",
        "SavableDatasetCheckpoint": "savable_loader",
        "SavableDatasetState": "savable_loader",
        "SystemRngState": "rng",
        "SliceState": "flavors.webdataset.sample_loader",
    }.items()
}


def to_plain(value: Any) -> Any:
    """Replaces Energon's classes, byte strings and arrays by marked dictionaries.

    Raises:
        TypeError: a class that `from_plain` would not know.
    """
    if value is None or isinstance(value, (bool, int, float, str, torch.Tensor)):
        return value
    if isinstance(value, bytes):
        return {_KIND: "bytes", "data": torch.from_numpy(np.frombuffer(value, dtype=np.uint8).copy())}
    if isinstance(value, np.ndarray):
        shape = list(value.shape)
        return {_KIND: "array", "dtype": str(value.dtype), "shape": shape, "data": to_plain(value.tobytes())}
    if isinstance(value, tuple):
        return {_KIND: "tuple", "items": [to_plain(item) for item in value]}
    if isinstance(value, list):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        kind = "state" if type(value).__name__ == "FlexState" else "dict"
        return {_KIND: kind, "items": [[to_plain(key), to_plain(item)] for key, item in value.items()]}
    name = type(value).__name__
    if dataclasses.is_dataclass(value) and name in _CLASSES:
        fields = {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {_KIND: name, "fields": fields}
    raise TypeError(f"the data loader's state holds a {type(value)}, which this project does not know how to save")


def from_plain(value: Any) -> Any:
    """The inverse of `to_plain`; makes no classes but those of the table above."""
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value[_KIND]
    if kind == "bytes":
        return value["data"].numpy().tobytes()
    if kind == "array":
        flat = np.frombuffer(bytearray(from_plain(value["data"])), dtype=value["dtype"])
        return flat.reshape(value["shape"])
    if kind == "tuple":
        return tuple(from_plain(item) for item in value["items"])
    if kind in ("state", "dict"):
        items = {from_plain(key): from_plain(item) for key, item in value["items"]}
        return _energon("state", "FlexState")(items) if kind == "state" else items
    fields = {name: from_plain(item) for name, item in value["fields"].items()}
    return _energon(_CLASSES[kind].removeprefix("megatron.energon."), kind)(**fields)


def _energon(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"megatron.energon.{module}"), name)

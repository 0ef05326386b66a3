"""Reads published weights, of any family and in any of the forms they come in.

Nothing is copied while reading: tensors are views of the memory-mapped file and are paged in when they are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cosmos_nemo import families
from cosmos_nemo.checkpoints.shards import MergedShards, check_set
from cosmos_nemo.checkpoints.upstream_folder import shard_files, weights_in, whole_path
from cosmos_nemo.checkpoints.weights_file import read_entries
from cosmos_nemo.errors import UserError

WRAPPERS = ("model", "module", "state_dict")
"""Keys under which files made by other tools nest the flat dictionary."""


def read_published(path: str | Path, *, ema: bool = False) -> Mapping[str, Tensor]:
    """Read published weights from a file or a folder.

    Args:
        path: a `.pt`/`.pth` file, a `.safetensors` file, an index `*.safetensors.index.json`, a folder holding
            one of the last two (also its subfolder `transformer`), one of a set of tensor-parallel files (which means
            the set) or the name of the file they were cut from, a published folder, or the folder of an upstream
            post-training run (its newest iteration).
        ema: take the averaged weights (such as `net_ema.`) instead of the plain ones.

    Returns:
        tensors under published names without prefix and without the ignored buffers; views of the mapped file, or, of
        a tensor-parallel set, merged when they are taken out.

    Raises:
        UserError: no such file, not readable to its end, not a state dict, no averaged weights in it, or an incomplete
            or mixed set of tensor-parallel files.
    """
    path = weights_in(Path(path))
    whole = whole_path(path)
    parts = shard_files(whole)
    # Upstream writes trainer state under the whole name, and the weights into the parts, when it trains at TP > 1.
    entries = None if parts and (whole != path or not path.exists()) else read_entries(path)
    if entries is None or (parts and not _holds_tensors(entries)):
        return read_shards(whole, ema=ema)
    return select_network(entries, ema=ema, source=str(path))


def read_shards(whole: Path, *, size: int | None = None, ema: bool = False) -> MergedShards:
    """The network that the tensor-parallel files beside `whole` make up.

    Args:
        whole: `X.pt`, of which the files `X_model_mp_{rank}.pt` are parts.
        size: tensor-parallel size; None takes as many as there are.
        ema: as in `read_published`.

    Raises:
        UserError: a file is missing or too many, or they do not belong together.
    """
    parts = {
        file: select_network(read_entries(file), ema=ema, source=str(file))
        for file in check_set(whole, shard_files(whole), size=size)
    }
    first, state = next(iter(parts.items()))
    return MergedShards(parts, families.of_published(state, source=str(first)))


def outline(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The same names with tensors of the right shape and dtype, whose values may be missing: costs nothing."""
    return state.outline() if isinstance(state, MergedShards) else state


def dtype_of(state: Mapping[str, Tensor]) -> torch.dtype:
    """Return the dtype that holds all of the tensors exactly."""
    tensors = list(outline(state).values())
    dtype = tensors[0].dtype
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def select_network(
    state: Mapping[str, Any], *, ema: bool = False, source: str = "the state dict"
) -> Mapping[str, Tensor]:
    """Take the network out of a published state dict.

    Removes the wrappers `model`/`module`/`state_dict`, takes the keys with the family's prefix such as `net.` (or, with
    `ema`, `net_ema.`) and drops that prefix, keeps keys with neither prefix as they are, and leaves out the buffers
    that the family ignores and nothing else. Applying it twice changes nothing.

    Raises:
        UserError: `ema` is asked for and there are no averaged weights, a value is not a tensor, or the network is of
            no known family.
    """
    if isinstance(state, MergedShards):
        return state
    state = _unwrap(state)
    if not any(isinstance(value, Tensor) for value in state.values()):
        key = next(iter(state), None)
        found = "it is empty" if key is None else f"'{key}' is a {type(state[key]).__name__}, not a tensor"
        raise UserError(f"{source} holds no network weights: {found}.")
    network = families.of_published(state, source=source).names.take(state, ema=ema, source=source)
    if not network:
        raise UserError(f"{source} holds no network weights (keys: {', '.join(list(state)[:5])}).")
    return network


def _unwrap(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Descend into `model`/`module`/`state_dict` as long as there is one."""
    while True:
        inner = next((state[name] for name in WRAPPERS if isinstance(state.get(name), Mapping)), None)
        if inner is None:
            return state
        state = inner


def _holds_tensors(entries: Mapping[str, Any]) -> bool:
    """Whether a file holds weights, as against a trainer's state only."""
    return any(isinstance(value, Tensor) for value in _unwrap(entries).values())

"""What `cosmos-nemo ckpt shard | merge` do, like upstream's two scripts. Each returns the text to print.

Source: cosmos-predict1 `scripts/shard_autoregressive_base_checkpoints.py`, `merge_autoregressive_tp_checkpoints.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cosmos_nemo.checkpoints import report
from cosmos_nemo.checkpoints.export import check_target, own_storages, refuse_existing_parts, write_parts
from cosmos_nemo.checkpoints.published import read_published, read_shards
from cosmos_nemo.checkpoints.shapes import published_architecture
from cosmos_nemo.checkpoints.shards import check_size
from cosmos_nemo.checkpoints.upstream_folder import shard_path, weights_in, whole_path
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.architecture import Architecture
from cosmos_nemo.families.rows import Naming
from cosmos_nemo.files import staged
from cosmos_nemo.runs.layout import is_training_checkpoint


def shard_checkpoint(
    source: str | Path, target: str | Path | None = None, *, tensor_parallel: int, overwrite: bool = False
) -> str:
    """Cut published weights into one file per tensor-parallel rank, `X_model_mp_{rank}.pt`.

    Args:
        source: published weights, such as `model.pt` or an `iter_*.pt`.
        target: `X.pt`, which gives the files their names and place and is not written itself; None: the source.
        tensor_parallel: number of files.
        overwrite: replace existing files; those of another number disappear.

    Returns:
        a line saying what was written.

    Raises:
        UserError: source unreadable or incomplete, a size that does not divide (the legal ones are named), files exist.
    """
    _refuse_training_checkpoint(source, f"ckpt export {source} model.pt --tensor-parallel {tensor_parallel}")
    whole = whole_path(weights_in(Path(target or source)))
    if whole.suffix != ".pt":
        raise UserError(f"{whole}: tensor-parallel files are parts of a .pt file; name one with --target.")
    refuse_existing_parts(whole, overwrite=overwrite)
    state = read_published(source)
    architecture = _checked(state)
    family = architecture.family
    check_size(family, architecture.fields, tensor_parallel)
    files = write_parts(state, whole, family, size=tensor_parallel)
    return f"Cut {len(state)} tensors of {source} into {files[0]} ... {files[-1].name} ({architecture.words})."


def merge_checkpoint(
    source: str | Path, target: str | Path, *, tensor_parallel: int | None = None, overwrite: bool = False
) -> str:
    """Put the tensor-parallel files of a network together: the inverse of `shard_checkpoint`, bit for bit.

    Args:
        source: `X.pt` (which need not exist), one of its parts, or the folder of an upstream run.
        target: `.pt` file, flat and under original names.
        tensor_parallel: how many files there must be; None takes what is there, of a named size only.
        overwrite: replace an existing target.

    Returns:
        a line saying what was written.

    Raises:
        UserError: a file is missing, too many or of another run, the network is incomplete, or the target exists.
    """
    _refuse_training_checkpoint(source, f"ckpt export {source} {target}")
    target = Path(target)
    check_target(target, Naming.ORIGINAL, overwrite=overwrite)
    if target.suffix == ".safetensors":
        raise UserError(f"{target}: ckpt merge writes a .pt file; ckpt export then turns it into .safetensors.")
    whole = whole_path(weights_in(Path(source)))
    state = read_shards(whole, size=tensor_parallel)
    architecture = _checked(state)
    if tensor_parallel is None and architecture.unknown:
        raise UserError(
            f"The {state.size} files of {whole} ({shard_path(whole, 0).name}, ...) make up no named size "
            f"({architecture.words}); if none is missing, say so with --tensor-parallel {state.size}."
        )
    with staged(target, overwrite=overwrite) as temporary:
        torch.save(
            own_storages({architecture.family.names.prefix + name: tensor for name, tensor in state.items()}), temporary
        )
    return f"Merged {len(state)} tensors of {state.size} files into {target} ({architecture.words})."


def _checked(state: Mapping[str, Tensor]) -> Architecture:
    """The architecture of published weights that are complete.

    Raises:
        UserError: listing every missing, unexpected and wrong-shape tensor.
    """
    architecture = published_architecture(state)
    report.check_published(state, architecture)
    return architecture


def _refuse_training_checkpoint(source: str | Path, command: str) -> None:
    """Raise if the source is one of this project's own checkpoints, which any tensor-parallel size reads."""
    if is_training_checkpoint(source):
        raise UserError(f"{source} is a training checkpoint, which is read at any size; use cosmos-nemo {command}.")

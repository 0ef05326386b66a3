"""Writes a model under published names: `.pt` (with tensor-parallel files), `.safetensors`, or a diffusers folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cosmos_nemo import families
from cosmos_nemo.checkpoints.convert import published_state_dict
from cosmos_nemo.checkpoints.shards import check_size, part_of
from cosmos_nemo.checkpoints.upstream_folder import is_iteration_file, shard_files, shard_path
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.family import Family
from cosmos_nemo.families.rows import Naming
from cosmos_nemo.files import refuse_existing, staged

DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"
FILE_SUFFIXES = (".pt", ".pth", ".safetensors")


def check_target(target: Path, naming: Naming, *, overwrite: bool, tensor_parallel: int | None = None) -> None:
    """Raise before any work if the export cannot be written to `target`.

    Raises:
        UserError: the target exists, or its suffix does not suit the format.
    """
    refuse_existing(target, overwrite=overwrite)
    if tensor_parallel is not None:
        refuse_existing_parts(target, overwrite=overwrite)
        if target.suffix != ".pt":
            raise UserError(f"{target}: tensor-parallel files are parts of a .pt file; end the name with .pt.")
    is_file = target.suffix in FILE_SUFFIXES
    if naming is Naming.ORIGINAL and not is_file:
        raise UserError(f"{target}: original names are written to one file; end it with {' or '.join(FILE_SUFFIXES)}.")
    if naming is Naming.DIFFUSERS and is_file and target.suffix != ".safetensors":
        raise UserError(f"{target}: diffusers reads a folder or a .safetensors file; drop the suffix {target.suffix}.")


def write_published(
    model: nn.Module,
    target: Path,
    *,
    naming: Naming = Naming.ORIGINAL,
    dtype: torch.dtype | None = None,
    tensor_parallel: int | None = None,
    iteration: int | None = None,
    overwrite: bool = False,
) -> int:
    """Write a model under published names; every rank of the tensor-parallel group calls this, rank 0 writes.

    Args:
        model: a network holding the weights.
        target: `.pt`/`.pth`/`.safetensors` file, or for diffusers names a folder. An autoregressive network's
            `iter_*.pt` gets the form that upstream's post-training has: weights under `model`, and `iteration`.
        naming: which names.
        dtype: cast to this; None keeps the model's.
        tensor_parallel: also write upstream's tensor-parallel files, this many; None: no.
        iteration: optimizer steps that made the weights.
        overwrite: replace an existing target.

    Returns:
        number of tensors written (0 on ranks that do not write).

    Raises:
        UserError: the target exists, has an unsuitable suffix, or the network cannot be cut into that many files.
    """
    check_target(target, naming, overwrite=overwrite, tensor_parallel=tensor_parallel)
    family, config = families.of_network(model)
    fields = family.describe(config)
    if tensor_parallel is not None:
        check_size(family, fields, tensor_parallel)
    state = published_state_dict(model, naming=naming, dtype=dtype, on_all_ranks=False)
    if not state or (torch.distributed.is_initialized() and torch.distributed.get_rank() != 0):
        return 0
    with staged(target, overwrite=overwrite) as temporary:
        if target.suffix not in FILE_SUFFIXES:
            temporary.mkdir()
            save_file(state, temporary / DIFFUSERS_WEIGHTS, metadata={"format": "pt"})
            described = json.dumps(family.names.diffusers_config(fields), indent=2)
            (temporary / "config.json").write_text(described + "\n")
        elif target.suffix == ".safetensors":
            write_file(state, temporary)
        else:
            in_parts = tensor_parallel is not None
            torch.save(_torch_content(state, target, family, iteration or 0, in_parts=in_parts), temporary)
    if tensor_parallel is not None:
        write_parts(state, target, family, size=tensor_parallel)
    return len(state)


def refuse_existing_parts(whole: Path, *, overwrite: bool) -> None:
    """Raise before any work if there are tensor-parallel files of `whole` that may not be replaced.

    Raises:
        UserError: naming one of them.
    """
    for file in shard_files(whole).values():
        refuse_existing(file, overwrite=overwrite)


def write_parts(state: Mapping[str, Tensor], whole: Path, family: Family, *, size: int) -> list[Path]:
    """Write the tensor-parallel files of a network; they appear together, and those of another size disappear.

    Args:
        state: the whole network under original names, with or without prefix.
        whole: `X.pt`, which gives the files their names and place.
        family: the network's family.
        size: number of files.

    Returns:
        the files.
    """
    bare = {name.removeprefix(family.names.prefix): tensor for name, tensor in state.items()}
    files = [shard_path(whole, rank) for rank in range(size)]
    with ExitStack() as stack:
        for rank, file in enumerate(files):
            temporary = stack.enter_context(staged(file, overwrite=True))
            torch.save(part_of(bare, family, rank=rank, size=size), temporary)
    for file in set(shard_files(whole).values()) - set(files):
        file.unlink()
    return files


def _torch_content(
    state: Mapping[str, Tensor], target: Path, family: Family, iteration: int, *, in_parts: bool
) -> dict[str, Any]:
    """What a `.pt` file holds: the weights, or what upstream's post-training writes for this family."""
    if not family.names.in_parts or not is_iteration_file(target):
        return own_storages(state)
    trainer = {"grad_scaler": {}, "iteration": iteration}
    return trainer if in_parts else {"model": own_storages(state), **trainer}


def write_file(state: Mapping[str, Tensor], file: Path) -> None:
    """Write tensors into a `.safetensors` or torch file, by its suffix."""
    if file.suffix == ".safetensors":
        save_file(dict(state), file, metadata={"format": "pt"})
    else:
        torch.save(own_storages(state), file)


def own_storages(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors that view a larger storage: torch.save would write the whole storage for each file."""
    return {
        name: tensor.clone() if tensor.untyped_storage().nbytes() != tensor.numel() * tensor.element_size() else tensor
        for name, tensor in state.items()
    }

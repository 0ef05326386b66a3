"""What `cosmos-nemo ckpt import | export | verify | info` do with adapters. Each returns the text to print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cosmos_nemo.checkpoints import report
from cosmos_nemo.checkpoints.adapters import (
    Matrices,
    adapters_of,
    check_shapes,
    give_adapters,
    run_settings,
    settings_of,
)
from cosmos_nemo.checkpoints.convert import load_published_into, published_state_dict
from cosmos_nemo.checkpoints.export import FILE_SUFFIXES, write_file
from cosmos_nemo.checkpoints.megatron import (
    load_run_adapters,
    load_training_checkpoint,
    run_architecture,
    save_imported,
    stored_dtype,
)
from cosmos_nemo.checkpoints.peft_folder import read_adapter_file, write_adapter_folder
from cosmos_nemo.checkpoints.published import dtype_of, read_published
from cosmos_nemo.checkpoints.shapes import published_architecture
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.adapter_names import PEFT
from cosmos_nemo.families.architecture import Architecture
from cosmos_nemo.families.rows import Naming
from cosmos_nemo.files import refuse_existing, staged
from cosmos_nemo.models.common.adapters import without_adapters
from cosmos_nemo.models.common.lora import LoRA
from cosmos_nemo.parallel.process import model_parallel_world
from cosmos_nemo.runs.layout import find_checkpoint, is_training_checkpoint


class Adapters(str, Enum):
    """What an export does with the adapters of a run."""

    MERGED = "merged"
    """Add them to the weights: files like any other network's."""
    ONLY = "only"
    """Write them alone, as a folder in PEFT's layout."""
    BESIDE = "beside"
    """Write weights and adapters into one file, as Cosmos-Predict2's post-training does."""


def import_alone(
    source: Path,
    target: Path,
    *,
    base: Path | None,
    alpha: float | None,
    ema: bool,
    dtype: torch.dtype | None,
    overwrite: bool,
) -> str:
    """Put adapters beside the weights they belong to, into a run folder with one checkpoint, of step 0.

    Args:
        source: adapters alone; see `peft_folder`.
        target: the run folder to make.
        base: the weights, published or a run's; adapters of that run are merged into them.
        alpha: of the adapters, if the file does not say.
        ema: take the averaged weights of `base`.
        dtype: cast to this; None keeps that of `base`.
        overwrite: replace an existing target.

    Raises:
        UserError: something is missing, or the adapters belong to another network.
    """
    if base is None:
        raise UserError(f"{source} holds adapters alone; give the weights that they belong to with --base.")
    file = read_adapter_file(source)
    refuse_existing(target, overwrite=overwrite)
    with _one_process("import"):
        network, architecture = _network(base, ema=ema, dtype=dtype)
        different = architecture.differences(file.architecture) if file.architecture else ""
        if different:
            raise UserError(f"{source} holds adapters of another network than {base}: {different}.")
        lora = _give(network, architecture, file.matrices, said=file.alpha, asked=alpha, source=source)
        with staged(target, overwrite=overwrite) as temporary:
            origin = f"{base.name}, adapters {source.name}"
            save_imported(network, temporary, imported_from=origin, ema=ema, lora=asdict(lora))
    return f"Imported {words(lora)} from {source}, beside the weights of {base}, into {target}."


def import_beside(
    source: Path,
    state: Mapping[str, Tensor],
    matrices: Matrices,
    target: Path,
    *,
    alpha: float | None,
    ema: bool,
    dtype: torch.dtype,
    overwrite: bool,
) -> str:
    """Turn a file with weights and adapters into a run folder with one checkpoint, of step 0.

    Args:
        source: the file.
        state: its weights.
        matrices: its adapters.
        target: the run folder to make.
        alpha: of the adapters; such files do not say.
        ema: whether these are the averaged weights.
        dtype: of the network.
        overwrite: replace an existing target.

    Raises:
        UserError: alpha is missing, or the network is none of this project's.
    """
    refuse_existing(target, overwrite=overwrite)
    with _one_process("import"):
        architecture = published_architecture(state)
        architecture.require_known()
        network = architecture.empty_network(dtype=dtype)
        load_published_into(network, state)
        lora = _give(network, architecture, matrices, said=None, asked=alpha, source=source)
        with staged(target, overwrite=overwrite) as temporary:
            save_imported(network, temporary, imported_from=source.name, ema=ema, lora=asdict(lora))
    return f"Imported {len(state)} tensors and {words(lora)} from {source} into {target} ({architecture.words})."


def export_adapters(
    source: Path,
    target: Path,
    *,
    adapters: Adapters,
    naming: Naming,
    dtype: torch.dtype | None,
    ema: bool,
    overwrite: bool,
) -> str:
    """Write the adapters of a run alone, or beside its weights.

    Args:
        source: a run folder, its `checkpoints`, or an `iter_*` folder.
        target: a folder for adapters alone; a file for both.
        adapters: which of the two.
        naming: which published names.
        dtype: cast to this; None keeps the checkpoint's.
        ema: take the averaged adapters.
        overwrite: replace an existing target.

    Raises:
        UserError: the run has no adapters, or the target exists or does not suit.
    """
    info = find_checkpoint(source) if is_training_checkpoint(source) else None
    if info is None or info.run is None or not info.run.lora:
        raise UserError(f"{source} is no run with adapters: leave out --adapters {adapters.value}.")
    is_file = target.suffix in FILE_SUFFIXES
    if is_file is (adapters is Adapters.ONLY):
        wanted = "a folder" if is_file else f"one file; end it with {' or '.join(FILE_SUFFIXES)}"
        raise UserError(f"{target}: --adapters {adapters.value} writes {wanted}.")
    if adapters is Adapters.BESIDE and naming is not Naming.ORIGINAL:
        raise UserError("--adapters beside writes upstream's form, which has original names only; leave out --format.")
    refuse_existing(target, overwrite=overwrite)
    with _one_process("export"):
        architecture = run_architecture(info)
        lora = run_settings(architecture, info.run.lora)
        network = architecture.empty_network(dtype=(ema and dtype) or stored_dtype(info))
        with staged(target, overwrite=overwrite) as temporary:
            if adapters is Adapters.ONLY:
                load_run_adapters(network, info, ema=ema)
                maps = architecture.adapted(lora, naming)
                matrices = adapters_of(network, maps).to(dtype)
                temporary.mkdir()
                base = info.run.initial_weights or info.run.imported_from or ""
                count = write_adapter_folder(temporary, matrices, maps, lora, architecture, base=base)
            else:
                load_training_checkpoint(network, info, ema=ema, adapters="live")
                state = _both(network, architecture, lora, dtype)
                write_file(state, temporary)
                count = len(state)
    averaged = ", averaged weights" if ema else ""
    note = "; the file does not hold alpha" if adapters is Adapters.BESIDE else ""
    return f"Exported {count} tensors, {words(lora)}, from {info.path} (step {info.step}{averaged}) to {target}{note}."


def verify_adapters(path: Path) -> str:
    """Check a file of adapters: readable to its end, both matrices of every map in one rank, all values finite.

    If the file says which network they belong to, places and shapes are compared with that.

    Raises:
        UserError: the first thing that is wrong.
    """
    file = read_adapter_file(path)
    rank = file.matrices.rank
    check_matrices(file.matrices, file.architecture, source=path)
    network = f", for {file.architecture.words}" if file.architecture else ""
    idle = "" if any(torch.count_nonzero(up) for up in file.matrices.up.values()) else "; every B is zero: no effect"
    return f"OK {path}: adapters of rank {rank} on {len(file.matrices.down)} linear maps, all finite{network}{idle}."


def check_matrices(matrices: Matrices, architecture: Architecture | None, *, source: Path) -> None:
    """Raise unless adapters are finite and fit a network, if it is known.

    Raises:
        UserError: naming what is wrong.
    """
    if architecture is not None:
        naming = architecture.family.names.naming(matrices.down)
        lora = settings_of(matrices, architecture.adapted(naming=naming), alpha=1.0, source=str(source))
        check_shapes(matrices, architecture.adapted(lora, naming), lora.rank, source=str(source))
    named = matrices.named(PEFT)
    not_finite = [name for name, tensor in named.items() if not bool(torch.isfinite(tensor).all())]
    if not_finite:
        raise UserError(f"{source} holds NaN or infinite values in {report.compress(not_finite)}.")


def adapter_rows(path: Path) -> dict[str, object]:
    """Return what `ckpt info` says about a file of adapters."""
    file = read_adapter_file(path)
    named = file.matrices.named(PEFT)
    rows: dict[str, object] = {"kind": "adapters alone, PEFT's layout", "path": path, "rank": file.matrices.rank}
    rows["alpha"] = "not said" if file.alpha is None else f"{file.alpha:g}"
    rows["dtype"] = next(iter(named.values())).dtype
    rows["parameters"] = f"{sum(tensor.numel() for tensor in named.values()):,} in {len(named)} tensors"
    if file.architecture is not None:
        rows |= {"network": file.architecture.words, "family": file.architecture.family.name}
    return rows


def words(lora: LoRA) -> str:
    """Return adapters in a few words, for messages."""
    alpha = f"alpha {lora.alpha:g}" if lora.scale == "alpha/rank" else f"scale {lora.alpha:g}"
    return f"adapters of rank {lora.rank} ({alpha})"


def _give(
    network: nn.Module,
    architecture: Architecture,
    matrices: Matrices,
    *,
    said: float | None,
    asked: float | None,
    source: Path,
) -> LoRA:
    """Give a network adapters with the alpha that their file says or else the user."""
    if said is not None and asked is not None and said != asked:
        raise UserError(f"{source} says alpha {said:g}, and --alpha {asked:g} was given; leave out --alpha.")
    alpha = asked if said is None else said
    if alpha is None:
        usual = architecture.family.names.adapter_alpha
        known = f"; {usual:g} is the default upstream" if usual else ""
        raise UserError(f"{source} does not say the alpha of its adapters; give it with --alpha{known}.")
    return give_adapters(network, architecture, matrices, alpha=alpha, source=str(source))


def _both(network: nn.Module, architecture: Architecture, lora: LoRA, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """The weights of a network and its adapters, under the names of upstream's files that hold both."""
    names, maps = architecture.family.names, architecture.adapted(lora)
    with without_adapters(network):
        state = published_state_dict(network, dtype=dtype)
    adapted = {names.prefix + i.weight: names.prefix + names.adapters.names_of(i.weight)[0] for i in maps}
    renamed = {adapted.get(name, name): tensor for name, tensor in state.items()}
    matrices = adapters_of(network, maps).to(dtype)
    return renamed | {names.prefix + name: tensor for name, tensor in matrices.named(names.adapters).items()}


def _network(source: Path, *, ema: bool, dtype: torch.dtype | None) -> tuple[Any, Architecture]:
    """The network of a run or of published weights, adapters merged."""
    if is_training_checkpoint(source):
        info = find_checkpoint(source)
        architecture = run_architecture(info)
        network = architecture.empty_network(dtype=dtype or stored_dtype(info))
        load_training_checkpoint(network, info, ema=ema)
        return network, architecture
    state = read_published(source, ema=ema)
    architecture = published_architecture(state)
    architecture.require_known()
    network = architecture.empty_network(dtype=dtype or dtype_of(state))
    load_published_into(network, state)
    return network, architecture


@contextmanager
def _one_process(command: str) -> Iterator[None]:
    with model_parallel_world() as world:
        if world.size > 1:
            raise UserError(f"ckpt {command} runs in one process: start it without torchrun.")
        yield

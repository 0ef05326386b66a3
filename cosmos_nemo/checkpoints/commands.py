"""What `cosmos-nemo ckpt import | export | verify | info` do. Each returns the text to print."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from cosmos_nemo.checkpoints import adapter_commands, report, tokenizer
from cosmos_nemo.checkpoints.adapter_commands import Adapters
from cosmos_nemo.checkpoints.adapters import run_settings, split_published
from cosmos_nemo.checkpoints.adapters import stored_shapes as stored_adapter_shapes
from cosmos_nemo.checkpoints.convert import load_published_into
from cosmos_nemo.checkpoints.export import check_target, write_published
from cosmos_nemo.checkpoints.megatron import (
    MODEL_PREFIX,
    load_training_checkpoint,
    run_architecture,
    save_imported,
    stored_dtype,
    stored_shapes,
)
from cosmos_nemo.checkpoints.peft_folder import is_adapter_file
from cosmos_nemo.checkpoints.published import dtype_of, outline, read_published
from cosmos_nemo.checkpoints.shapes import published_architecture
from cosmos_nemo.checkpoints.shards import MergedShards
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.rows import Naming
from cosmos_nemo.files import refuse_existing, staged
from cosmos_nemo.parallel.process import model_parallel_world
from cosmos_nemo.platform.dtypes import parse_dtype
from cosmos_nemo.runs.layout import (
    CheckpointInfo,
    find_checkpoint,
    is_training_checkpoint,
    iterations,
    manifest_sizes,
    open_checkpoint,
)


def import_checkpoint(
    source: str | Path,
    target: str | Path,
    *,
    base: str | Path | None = None,
    alpha: float | None = None,
    ema: bool = False,
    dtype: str | torch.dtype | None = None,
    overwrite: bool = False,
) -> str:
    """Turn published weights into a run folder with one distributed checkpoint, of step 0.

    Args:
        source: published weights in any form that `read_published` takes; adapters beside them are kept; or adapters
            alone.
        target: the run folder to make; training and `generate` take it as a checkpoint.
        base: the weights that adapters alone belong to.
        alpha: of the adapters, where `source` does not say.
        ema: take the averaged weights.
        dtype: cast to this; None keeps the file's.
        overwrite: replace an existing target.

    Returns:
        a line saying what was written.

    Raises:
        UserError: source unreadable or not a network of this project, target exists.
    """
    if tokenizer.holds_tokenizer(source):
        return tokenizer.import_tokenizer(source, target, dtype=parse_dtype(dtype), overwrite=overwrite)
    source, target, cast = Path(source), Path(target), parse_dtype(dtype)
    if is_adapter_file(source):
        base = None if base is None else Path(base)
        return adapter_commands.import_alone(
            source, target, base=base, alpha=alpha, ema=ema, dtype=cast, overwrite=overwrite
        )
    if base is not None:
        raise UserError(f"{source} holds weights of its own: leave out --base.")
    refuse_existing(target, overwrite=overwrite)
    state, matrices = split_published(read_published(source, ema=ema), source=str(source))
    if matrices.down:
        return adapter_commands.import_beside(
            source,
            state,
            matrices,
            target,
            alpha=alpha,
            ema=ema,
            dtype=cast or dtype_of(state),
            overwrite=overwrite,
        )
    if alpha is not None:
        raise UserError(f"{source} holds no adapters: leave out --alpha.")
    with model_parallel_world() as world:
        if world.size > 1:
            raise UserError("ckpt import runs in one process: start it without torchrun.")
        architecture = published_architecture(state)
        architecture.require_known()
        model = architecture.empty_network(dtype=cast or dtype_of(state))
        load_published_into(model, state)
        with staged(target, overwrite=overwrite) as temporary:
            save_imported(model, temporary, imported_from=source.name, ema=ema)
    return f"Imported {len(state)} tensors from {source} into {target} ({architecture.words})."


def export_checkpoint(
    source: str | Path,
    target: str | Path,
    *,
    format: str = "original",
    adapters: Adapters | str = Adapters.MERGED,
    dtype: str | torch.dtype | None = None,
    ema: bool = False,
    tensor_parallel: int | None = None,
    overwrite: bool = False,
) -> str:
    """Write a training checkpoint, an imported folder or another published file under published names.

    Args:
        source: run folder, its `checkpoints`, an `iter_*` folder; or published weights, to change their format.
        target: `.pt` or `.safetensors` file; for diffusers names a folder.
        format: `original` or `diffusers`.
        adapters: what is done with the adapters of a run, see `Adapters`.
        dtype: cast to this; None keeps the checkpoint's.
        ema: take the averaged weights.
        tensor_parallel: also write upstream's `_model_mp_{rank}.pt` files, this many; None: no.
        overwrite: replace an existing target.

    Returns:
        a line saying what was written.

    Raises:
        UserError: source unreadable, target exists or has an unsuitable suffix.
    """
    target, naming, cast = Path(target), _naming(format), parse_dtype(dtype)
    if tokenizer.holds_tokenizer(source):
        if naming is not Naming.ORIGINAL or tensor_parallel:
            raise UserError(
                "A tokenizer is exported as TorchScript files only: leave --format and --tensor-parallel away."
            )
        return tokenizer.export_tokenizer(source, target, dtype=cast, ema=ema, overwrite=overwrite)
    adapters = _adapters(adapters)
    if adapters is not Adapters.MERGED:
        if tensor_parallel:
            raise UserError("Tensor-parallel files hold merged weights: leave out --adapters or --tensor-parallel.")
        return adapter_commands.export_adapters(
            Path(source), target, adapters=adapters, naming=naming, dtype=cast, ema=ema, overwrite=overwrite
        )
    check_target(target, naming, overwrite=overwrite, tensor_parallel=tensor_parallel)
    with model_parallel_world() as world:
        if world.size > 1:
            raise UserError("ckpt export runs in one process: start it without torchrun.")
        if is_training_checkpoint(source):
            info = find_checkpoint(source)
            architecture = run_architecture(info)
            # Averages are fp32 whatever the weights are, so they are rounded once, at most.
            model = architecture.empty_network(dtype=(ema and cast) or stored_dtype(info))
            load_training_checkpoint(model, info, ema=ema)
            origin, step = f"{info.path} (step {info.step}{', averaged weights' * ema})", info.step
        else:
            state = read_published(source, ema=ema)
            architecture = published_architecture(state)
            architecture.require_known()
            model = architecture.empty_network(dtype=dtype_of(state))
            load_published_into(model, state)
            origin, step = str(source), 0
        count = write_published(
            model,
            target,
            naming=naming,
            dtype=cast,
            tensor_parallel=tensor_parallel,
            iteration=step,
            overwrite=overwrite,
        )
    parts = f" and {tensor_parallel} tensor-parallel files beside it" if tensor_parallel else ""
    return f"Exported {count} tensors from {origin} to {target}{parts} ({naming.value} names)."


def verify(path: str | Path, *, ema: bool = False) -> str:
    """Check a checkpoint without building a model.

    Training checkpoints (all of a run, or the one named): every file of the manifest in its full size, the tensors
    against the sizes in run.json.
    Published weights and adapters: readable to the end, every tensor there in its shape, all values finite.

    Returns:
        a line per checkpoint saying what was checked.

    Raises:
        UserError: the first thing that is wrong.
    """
    if not is_training_checkpoint(path) and tokenizer.holds_tokenizer(path):
        return tokenizer.verify_tokenizer(path)
    if is_training_checkpoint(path):
        return "\n".join(_verify_training(open_checkpoint(folder)) for folder in iterations(Path(path)))
    if is_adapter_file(Path(path)):
        return adapter_commands.verify_adapters(Path(path))
    state, matrices = split_published(read_published(path, ema=ema), source=str(path))
    architecture = published_architecture(state)
    report.check_published(state, architecture)
    not_finite = [name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())]
    if not_finite:
        raise UserError(f"{path} holds NaN or infinite values in {report.compress(not_finite)}.")
    beside = ""
    if matrices.down:
        adapter_commands.check_matrices(matrices, architecture, source=Path(path))
        beside = f" and adapters of rank {matrices.rank}"
    return f"OK {path}: {len(state)} tensors{beside}, all finite; {architecture.words}."


def _verify_training(info: CheckpointInfo) -> str:
    """Check one training checkpoint, whose files were compared with the manifest when it was opened."""
    if tokenizer.is_tokenizer_run(info):
        return tokenizer.verify_tokenizer_run(info)
    shapes = stored_shapes(info)
    if info.run:
        architecture = run_architecture(info)
        ours = architecture.our_shapes()
        if info.run.lora:
            ours |= stored_adapter_shapes(architecture, info.run.lora)
        expected = {f"{MODEL_PREFIX}{name}": shape for name, shape in ours.items()}
        report.check(found=shapes, expected=expected, headline=f"{info.path} does not match its run.json")
    files = manifest_sizes(info.manifest)
    return f"OK {info.path}: step {info.step}, {len(files)} files ({sum(files.values())} bytes), {len(shapes)} tensors."


def info(path: str | Path, *, ema: bool = False) -> str:
    """Say what a checkpoint is: kind, task, sizes, dtype, parameters, step."""
    if tokenizer.holds_tokenizer(path):
        return _table(tokenizer.tokenizer_rows(path))
    if is_adapter_file(Path(path)):
        return _table(adapter_commands.adapter_rows(Path(path)))
    if is_training_checkpoint(path):
        checkpoint = find_checkpoint(path)
        rows = {"kind": "training checkpoint", "path": checkpoint.path, "step": checkpoint.step}
        if "consumed_samples" in checkpoint.manifest:
            rows["consumed samples"] = checkpoint.manifest["consumed_samples"]
        architecture = run_architecture(checkpoint) if checkpoint.run else None
        shapes = stored_shapes(checkpoint)
        rows["recipe"] = ((run := checkpoint.run) and (run.recipe or run.imported_from)) or "unknown"
        if architecture is not None and checkpoint.run and checkpoint.run.lora:
            rows["adapters"] = adapter_commands.words(run_settings(architecture, checkpoint.run.lora))
        rows["dtype"] = stored_dtype(checkpoint)
    else:
        state, matrices = split_published(read_published(path, ema=ema), source=str(path))
        architecture = published_architecture(state)
        shapes = {name: tuple(tensor.shape) for name, tensor in outline(state).items()}
        parts = f" in {state.size} tensor-parallel files" if isinstance(state, MergedShards) else ""
        naming = architecture.family.names.naming(state)
        rows = {"kind": f"published weights, {naming.value} names{parts}", "path": path}
        if matrices.down:
            rows["adapters"] = f"of rank {matrices.rank}, beside the weights"
        rows["dtype"] = dtype_of(state)
    rows["parameters"] = f"{sum(_product(shape) for shape in shapes.values()):,} in {len(shapes)} tensors"
    if architecture is not None:
        rows |= {"task": architecture.task, "family": architecture.family.name, **architecture.fields}
    return _table(rows)


def _table(rows: Mapping[str, object]) -> str:
    """One line per name and value."""
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {str(value).removeprefix('torch.')}" for name, value in rows.items())


def _adapters(name: Adapters | str) -> Adapters:
    """What is done with adapters, by its name."""
    try:
        return Adapters(name)
    except ValueError:
        raise UserError(f"--adapters {name} is unknown; use {', '.join(a.value for a in Adapters)}.") from None


def _naming(format: str) -> Naming:
    """The family of names called `format`."""
    try:
        return Naming(format)
    except ValueError:
        raise UserError(f"--format {format} is unknown; use {' or '.join(n.value for n in Naming)}.") from None


def _product(shape: tuple[int, ...]) -> int:
    """Number of elements."""
    count = 1
    for size in shape:
        count *= size
    return count

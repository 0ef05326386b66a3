"""What the `ckpt` commands do with video tokenizers: TorchScript files and training checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cosmos_nemo.checkpoints import report
from cosmos_nemo.checkpoints.megatron import (
    MODEL_PREFIX,
    load_training_checkpoint,
    run_architecture,
    save_imported,
    stored_dtype,
    stored_shapes,
)
from cosmos_nemo.errors import UserError
from cosmos_nemo.files import refuse_existing, staged
from cosmos_nemo.parallel.process import model_parallel_world
from cosmos_nemo.runs.layout import CheckpointInfo, find_checkpoint, is_training_checkpoint, manifest_sizes
from cosmos_nemo.tokenizers.cosmos.config import CosmosTokenizerConfig
from cosmos_nemo.tokenizers.cosmos.jit import MEAN_STD, export_jit
from cosmos_nemo.tokenizers.cosmos.network import ContinuousNetwork, DiscreteNetwork, build_network
from cosmos_nemo.tokenizers.cosmos.tokenizer import read_mean_std
from cosmos_nemo.tokenizers.cosmos.weights import (
    AUTOENCODER,
    CONSTANTS,
    DECODER,
    ENCODER,
    describe,
    find_jit,
    load_network,
    read_jit,
)

TASK = "tokenizer"


def holds_tokenizer(path: str | Path) -> bool:
    """Whether a path is a tokenizer's training run, or holds its published files."""
    path = Path(path)
    if is_training_checkpoint(path):
        return is_tokenizer_run(find_checkpoint(path))
    if path.suffix == ".jit":
        return True
    return path.is_dir() and any((path / name).is_file() for name in (AUTOENCODER, ENCODER, DECODER))


def is_tokenizer_run(info: CheckpointInfo) -> bool:
    """Whether a training checkpoint is one of a tokenizer."""
    return info.run is not None and info.run.family == CosmosTokenizerConfig.family


def import_tokenizer(
    source: str | Path, target: str | Path, *, dtype: torch.dtype | None = None, overwrite: bool = False
) -> str:
    """Turn published files into a run folder with one distributed checkpoint, of step 0.

    Returns:
        a line saying what was written.
    """
    target = Path(target)
    refuse_existing(target, overwrite=overwrite)
    config, network = load_network(source, dtype=dtype)
    with model_parallel_world(), staged(target, overwrite=overwrite) as temporary:
        save_imported(network, temporary, imported_from=Path(source).name)
    return f"Imported {describe(config)} from {source} into {target}."


def export_tokenizer(
    source: str | Path,
    target: str | Path,
    *,
    dtype: torch.dtype | None = None,
    ema: bool = False,
    overwrite: bool = False,
) -> str:
    """Write a tokenizer as `encoder.jit`, `decoder.jit` and `autoencoder.jit`.

    Args:
        source: a training run, or published files, whose latent statistics go along.
        target: the folder to make.
        dtype: of the written weights; None keeps the source's.
        ema: take the averaged weights.
        overwrite: replace an existing target.

    Returns:
        a line saying what was written.

    Raises:
        UserError: the target exists or is named like a file, or the source is damaged.
    """
    target = Path(target)
    if target.suffix in (".pt", ".pth", ".safetensors", ".jit"):
        raise UserError(f"A tokenizer is exported to a folder of three files, not to {target.name}; name a folder.")
    refuse_existing(target, overwrite=overwrite)
    mean_std = None
    if is_training_checkpoint(source):
        info = find_checkpoint(source)
        network = load_run(info, ema=ema)
        origin = f"{info.path} (step {info.step}{', averaged weights' * ema})"
    else:
        if ema:
            raise UserError(f"{source} holds no averaged (EMA) weights; leave --ema away.")
        _, network = load_network(source)
        origin = str(source)
        mean_std = _statistics(find_jit(source)[0].parent, network.config)
    with staged(target, overwrite=overwrite) as temporary:
        export_jit(network, network.config, temporary, dtype=dtype, mean_std=mean_std)
    statistics = f" with {MEAN_STD}" if mean_std else ""
    return f"Exported {describe(network.config)} from {origin} to {target}{statistics}."


def load_run(source: str | Path | CheckpointInfo, *, ema: bool = False) -> ContinuousNetwork | DiscreteNetwork:
    """Load the network of a tokenizer's training run.

    Args:
        source: a run folder, its `checkpoints`, an `iter_*` folder, or what `find_checkpoint` returned.
        ema: take the averaged weights; they are float32.

    Raises:
        UserError: damaged, or the run of something else.
    """
    info = source if isinstance(source, CheckpointInfo) else find_checkpoint(source)
    network = build_network(_config_of(info)).to(torch.float32 if ema else stored_dtype(info))
    with model_parallel_world() as world:
        if world.size > 1:
            raise UserError("This command runs in one process: start it without torchrun.")
        load_training_checkpoint(network, info, ema=ema)
    return network


def verify_tokenizer(path: str | Path) -> str:
    """Check published files: readable, every tensor there in its shape and finite, the three files in agreement.

    Returns:
        a line saying what was checked.

    Raises:
        UserError: the first thing that is wrong.
    """
    files = find_jit(path)
    config, network = load_network(path)
    folder = files[0].parent
    parts = [folder / name for name in (ENCODER, DECODER) if (folder / name).is_file()]
    if files[0].name == AUTOENCODER:
        whole = network.state_dict()
        for part in parts:
            state = {name: t for name, t in read_jit(part).items() if not CONSTANTS.fullmatch(name)}
            wrong = sorted(n for n, t in state.items() if n not in whole or not torch.equal(t.to(whole[n]), whole[n]))
            if wrong:
                raise UserError(
                    f"{part} does not hold the weights of {AUTOENCODER} beside it: {report.compress(wrong)}."
                )
    names = dict.fromkeys([*(file.name for file in files), *(part.name for part in parts)])
    if _statistics(folder, config) is not None:
        names[MEAN_STD] = None
    return f"OK {path}: {', '.join(names)}; {len(network.state_dict())} tensors, all finite; {describe(config)}."


def verify_tokenizer_run(info: CheckpointInfo) -> str:
    """Check one training checkpoint, whose files were compared with the manifest when it was opened."""
    with torch.device("meta"):
        network = build_network(_config_of(info))
    expected = {f"{MODEL_PREFIX}{name}": tuple(t.shape) for name, t in network.state_dict().items()}
    shapes = stored_shapes(info)
    report.check(found=shapes, expected=expected, headline=f"{info.path} does not match its run.json")
    files = manifest_sizes(info.manifest)
    return f"OK {info.path}: step {info.step}, {len(files)} files ({sum(files.values())} bytes), {len(shapes)} tensors."


def tokenizer_rows(path: str | Path) -> dict[str, Any]:
    """What `ckpt info` prints of a tokenizer, name -> value."""
    rows: dict[str, Any]
    if is_training_checkpoint(path):
        info = find_checkpoint(path)
        config, dtype = _config_of(info), stored_dtype(info)
        rows = {"kind": "training checkpoint", "path": info.path, "step": info.step}
        rows["recipe"] = ((run := info.run) and (run.recipe or run.imported_from)) or "unknown"
    else:
        config, network = load_network(path)
        dtype = next(network.parameters()).dtype
        rows = {"kind": "published TorchScript files", "path": path}
        if not config.discrete:
            found = _statistics(find_jit(path)[0].parent, config) is not None
            rows["latents"] = f"normalised by {MEAN_STD}" if found else f"not normalised: there is no {MEAN_STD}"
    with torch.device("meta"):
        parameters = list(build_network(config).parameters())
    rows["dtype"] = dtype
    rows["parameters"] = f"{sum(p.numel() for p in parameters):,} in {len(parameters)} tensors"
    return {**rows, "task": TASK, "name": config.name, **config.sizes()}


def _config_of(info: CheckpointInfo) -> CosmosTokenizerConfig:
    """The network that a training run recorded.

    Raises:
        UserError: none, or not that of a tokenizer.
    """
    if not is_tokenizer_run(info):
        raise UserError(f"{info.path} is not a checkpoint of a video tokenizer, by the run.json of its run.")
    return CosmosTokenizerConfig(**run_architecture(info).fields)


def _statistics(folder: Path, config: CosmosTokenizerConfig) -> tuple[Tensor, Tensor] | None:
    """Latent statistics beside a tokenizer's weights, if there are any."""
    file = folder / MEAN_STD
    return read_mean_std(file, latent_channels=config.latent_channels) if file.is_file() else None

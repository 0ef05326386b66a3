"""Reads and writes Megatron distributed checkpoints (torch_dist) without NeMo, at any tensor-parallel size.

Training writes the network under the key prefix `module.`, beside the optimizer's state, which is not read here.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from cosmos_nemo import families
from cosmos_nemo.checkpoints import fused_adapters, report
from cosmos_nemo.checkpoints.adapters import run_settings
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.architecture import Architecture
from cosmos_nemo.files import write_json
from cosmos_nemo.runs.layout import (
    CHECKPOINTS_DIR,
    LATEST_FILE,
    MANIFEST_FILE,
    WEIGHTS_DIR,
    CheckpointInfo,
    find_checkpoint,
    iteration_name,
    make_manifest,
)
from cosmos_nemo.runs.record import RUN_FILE, RunRecord

if TYPE_CHECKING:
    from megatron.core.transformer.module import MegatronModule

logger = logging.getLogger(__name__)

MODEL_PREFIX = "module."
"""What NeMo puts before the network's keys."""

EMA_PREFIX = "ema."
"""What training puts, instead, before the keys of the moving averages of weights, which are fp32."""


def load_training_checkpoint(
    model: MegatronModule,
    checkpoint: str | Path | CheckpointInfo,
    *,
    ema: bool = False,
    adapters: Literal["merged", "live", "left out"] = "merged",
) -> CheckpointInfo:
    """Load the network's weights of a training checkpoint, each rank reading its own shard.

    Args:
        model: a network in the current model-parallel world, whose size need not be the training run's.
        checkpoint: a run folder, its `checkpoints`, an `iter_*` folder, or what `find_checkpoint` returned.
        ema: take the averages of the weights that were trained.
        adapters: what becomes of the adapters that a run trained: merged into the weights they adapt, kept in the
            layers, or left out.

    Returns:
        the checkpoint that was loaded.

    Raises:
        UserError: nothing there, damaged, or of another model; every wrong key is listed.
    """
    from cosmos_nemo.models.common.adapters import merge_adapters, remove_adapters

    info = checkpoint if isinstance(checkpoint, CheckpointInfo) else find_checkpoint(checkpoint)
    entries = _entries(model, info)
    state = _read(model, info, entries, ema=ema)
    with torch.no_grad():
        model.load_state_dict(state, strict=True)
    if adapters != "live":
        (merge_adapters if adapters == "merged" else remove_adapters)(model)
    logger.info("Loaded %s (step %d)", info.path, info.step)
    return info


def load_run_adapters(model: MegatronModule, info: CheckpointInfo, *, ema: bool = False) -> None:
    """Give a network the adapters of a run, and leave its weights as they are.

    Args:
        model: a network in the current model-parallel world, without adapters.
        info: a checkpoint of a run that trained adapters.
        ema: take their averages.

    Raises:
        UserError: as `load_training_checkpoint`.
    """
    entries = {key: entry for key, entry in _entries(model, info).items() if ".lora_" in key}
    state = _read(model, info, entries, ema=ema)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.copy_(state[name])


def _entries(model: Any, info: CheckpointInfo) -> dict[str, Any]:
    """What a checkpoint holds of a network, by key; the network gets the adapters that it says.

    Raises:
        UserError: it is of another network.
    """
    from cosmos_nemo.models.common.adapters import add_adapters

    lora = info.run.lora if info.run else None
    if lora:
        add_adapters(model, run_settings(run_architecture(info), lora))
    entries = _shards(model)
    if lora and fused_adapters.is_fused(lora):
        entries = fused_adapters.checkpoint_entries(model, entries, prefix=MODEL_PREFIX)
    check_keys(info, _whole_shapes(entries))
    return entries


def _read(model: Any, info: CheckpointInfo, entries: dict[str, Any], *, ema: bool) -> dict[str, Tensor]:
    """Read entries of a checkpoint, this rank's shards; by our names."""
    from megatron.core import dist_checkpointing

    if ema:
        averaged = stored_shapes(info, prefix=EMA_PREFIX)
        for key, entry in entries.items():
            if EMA_PREFIX + entry.key.removeprefix(MODEL_PREFIX) in averaged:
                entries[key] = sharded_average(entry, torch.empty_like(entry.data, dtype=torch.float32))
    state = dist_checkpointing.load(dict(entries), str(info.weights), common_strategy=_no_common())
    named = {key.removeprefix(MODEL_PREFIX): state[key] for key in entries}
    lora = info.run.lora if info.run else None
    return fused_adapters.split_state(model, named) if lora and fused_adapters.is_fused(lora) else named


def _shards(model: Any) -> dict[str, Any]:
    """The entries of a network's tensors; of one that knows no model parallelism, every rank has all of them."""
    from megatron.core.transformer.utils import sharded_state_dict_default

    shards: dict[str, Any] = sharded_state_dict_default(model, prefix=MODEL_PREFIX)
    return shards


def sharded_average(entry: Any, tensor: Tensor) -> Any:
    """The checkpoint entry of a parameter's average, made from the parameter's own.

    Args:
        entry: a Megatron `ShardedTensor`, or the factory of several.
        tensor: this rank's shard of the average, fp32.
    """
    average = copy.copy(entry)
    average.key = EMA_PREFIX + entry.key.removeprefix(MODEL_PREFIX)
    average.data = tensor
    if hasattr(average, "dtype"):
        average.dtype = torch.float32
    return average


def stored_shapes(info: CheckpointInfo, *, prefix: str = MODEL_PREFIX) -> dict[str, tuple[int, ...]]:
    """Full shapes of the network's tensors in a checkpoint, by key (with the prefix).

    Args:
        info: the checkpoint.
        prefix: `MODEL_PREFIX`, or `EMA_PREFIX` for the averages.

    Raises:
        UserError: the metadata cannot be read, or there is no such tensor in the checkpoint.
    """
    from megatron.core import dist_checkpointing

    try:
        metadata = dist_checkpointing.load_tensors_metadata(str(info.weights))
    except Exception as error:  # Megatron and torch raise a dozen classes for a damaged .metadata
        raise UserError(f"{info.weights} is not a readable Megatron checkpoint: {error}") from error
    shapes = {key: tuple(t.global_shape) for key, t in metadata.items() if key.startswith(prefix)}
    if not shapes and prefix == EMA_PREFIX:
        raise UserError(
            f"{info.path} holds no averaged weights; leave --ema away, or train with model.ema_decay or model.ema_rate."
        )
    if not shapes:
        raise UserError(f"{info.weights} holds no tensor under '{MODEL_PREFIX}'; it is not a training checkpoint.")
    return shapes


def stored_dtype(info: CheckpointInfo) -> torch.dtype:
    """The dtype in which a training checkpoint holds the network."""
    from megatron.core import dist_checkpointing

    metadata = dist_checkpointing.load_tensors_metadata(str(info.weights))
    return next(t.dtype for key, t in metadata.items() if key.startswith(MODEL_PREFIX))


def check_keys(info: CheckpointInfo, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise unless the checkpoint has exactly the expected network tensors in their full shapes.

    Raises:
        UserError: listing every missing, unexpected and wrong-shape tensor.
    """
    found = stored_shapes(info)
    report.check(
        found=found,
        expected=expected,
        headline=f"The checkpoint {info.path} is of another model",
        remedy="Choose the recipe it was trained with",
    )


def run_architecture(info: CheckpointInfo) -> Architecture:
    """Return the network that a training run recorded.

    Raises:
        UserError: The run has no run.json, or it is of no known family.
    """
    file = info.run_dir / RUN_FILE
    if info.run is None:
        raise UserError(f"{file} is missing; restore it from the training run.")
    return families.recorded(info.run, source=str(file))


def save_imported(model: MegatronModule, run_dir: Path, **recorded: Any) -> Path:
    """Write a network's weights as the checkpoint of step 0 of a run folder.

    All ranks call this with the same folder, which must be a temporary one: the caller renames it when it is whole.

    Args:
        model: a network in the current model-parallel world.
        run_dir: the run folder to make.
        **recorded: further fields of the `RunRecord`.

    Returns:
        the `iter_*` folder.
    """
    from megatron.core import dist_checkpointing

    folder = run_dir / CHECKPOINTS_DIR / iteration_name(0)
    weights = folder / WEIGHTS_DIR
    weights.mkdir(parents=True, exist_ok=True)
    sharded = _shards(model)
    dist_checkpointing.save(dict(sharded), str(weights))
    torch.distributed.barrier()
    if torch.distributed.get_rank() == 0:
        family, config = families.of_network(model)
        fields = family.describe(config)
        RunRecord(family=family.name, task=family.task_of(fields), model=fields, **recorded).write(run_dir)
        write_json(folder / MANIFEST_FILE, make_manifest(folder, step=0, consumed_samples=0))
        (run_dir / CHECKPOINTS_DIR / LATEST_FILE).write_text(folder.name + "\n")
    torch.distributed.barrier()
    return folder


def _whole_shapes(sharded: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Full shape of every tensor of the network, over all pipeline stages, by its key in a checkpoint."""
    from megatron.core import parallel_state

    mine = {entry.key: tuple(entry.global_shape) for value in sharded.values() for entry in _tensors(value)}
    stages: list[dict[str, tuple[int, ...]]] = [{}] * parallel_state.get_pipeline_model_parallel_world_size()
    if len(stages) == 1:
        return mine
    torch.distributed.all_gather_object(stages, mine, group=parallel_state.get_pipeline_model_parallel_group())
    return {key: shape for stage in stages for key, shape in stage.items()}


def _tensors(entry: Any) -> list[Any]:
    """The sharded tensors that an entry stands for: none for objects, several for a factory (both halves of an MLP)."""
    from megatron.core.dist_checkpointing import ShardedTensor
    from megatron.core.dist_checkpointing.mapping import ShardedTensorFactory

    if isinstance(entry, ShardedTensorFactory):
        return [built for built in entry.build() if isinstance(built, ShardedTensor)]
    return [entry] if isinstance(entry, ShardedTensor) else []


def _no_common() -> Any:
    """A strategy that skips `common.pt`.

    That file holds the trainer's loops and callbacks, whose classes only NeMo can unpickle; weights are not in it.
    """
    from megatron.core.dist_checkpointing.strategies.common import TorchCommonLoadStrategy

    class SkipCommon(TorchCommonLoadStrategy):
        """Reads nothing."""

        def load_common(self, checkpoint_dir: str | Path) -> dict[str, Any]:
            """An empty common state."""
            return {}

    return SkipCommon()

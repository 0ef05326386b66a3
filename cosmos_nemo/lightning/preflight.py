"""What can be known to be wrong before anything is built, and what a run will do, in words."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cosmos_nemo.checkpoints.architecture import architecture_of
from cosmos_nemo.data.schema import Manifest
from cosmos_nemo.errors import UserError
from cosmos_nemo.lightning.optim import check_schedule
from cosmos_nemo.lightning.run_folder import RUN_FORMAT, RunLog, differences
from cosmos_nemo.lightning.throughput import Work


@dataclass(frozen=True, kw_only=True)
class World:
    """How the processes are divided.

    Attributes:
        size: processes in all.
        tensor: ranks that share every layer.
        context: ranks that share the tokens of a sample.
        data: ranks with different samples.
        accumulation: micro batches per optimizer step.
    """

    size: int
    tensor: int
    context: int
    data: int
    accumulation: int


def divide_world(trainer: Any, data: Any) -> World:
    """Divides the processes as the strategy says.

    Raises:
        UserError: they do not divide, or the global batch does not; with the legal values.
    """
    size = int(os.environ.get("WORLD_SIZE", trainer.num_devices * trainer.num_nodes))
    tensor, context = trainer.strategy.tensor_model_parallel_size, trainer.strategy.context_parallel_size
    pipeline = trainer.strategy.pipeline_model_parallel_size
    if size % (tensor * pipeline * context):
        raise UserError(
            f"{size} processes do not divide by trainer.strategy.tensor_model_parallel_size={tensor} x "
            f"pipeline_model_parallel_size={pipeline} x context_parallel_size={context}; start a multiple of "
            f"{tensor * pipeline * context}, or lower one of them."
        )
    ranks = size // (tensor * pipeline * context)
    step = data.micro_batch_size * ranks
    if data.global_batch_size % step:
        lower = data.global_batch_size // step * step
        raise UserError(
            f"data.global_batch_size={data.global_batch_size} is not a multiple of data.micro_batch_size="
            f"{data.micro_batch_size} x {ranks} data-parallel ranks; use "
            f"{f'{lower} or ' if lower else ''}{lower + step}."
        )
    return World(size=size, tensor=tensor, context=context, data=ranks, accumulation=data.global_batch_size // step)


def check_data(model: Any, data: Any) -> Manifest:
    """Opens the data sets and compares them with the network.

    Returns:
        the manifest of the training data.

    Raises:
        UserError: missing, incomplete, truncated, or made for another network.
    """
    from cosmos_nemo.data.energon import open_dataset

    if not data.path:
        raise UserError("data.path is not set; give the folder that `python -m data_prep shards` wrote.")
    manifests = []
    for field, path in (("data.path", data.path), ("data.val_path", data.val_path)):
        if not path:
            continue
        if not Path(path).is_dir():
            raise UserError(f"{field}={path} is not a folder; make it with `python -m data_prep shards`.")
        manifest = open_dataset(path)
        _check_fit(model.config, manifest, field)
        manifests.append(manifest)
    if not manifests[0].num_samples("train"):
        raise UserError(f"data.path={data.path} has no train samples; prepare it with more videos.")
    if manifests[0].latent_shape != manifests[-1].latent_shape:
        raise UserError(f"data.val_path={data.val_path} has other latent sizes than data.path; prepare them alike.")
    return manifests[0]


def _check_fit(config: Any, manifest: Manifest, field: str) -> None:
    if manifest.latent_shape is None:
        raise UserError(
            f"{field} holds {manifest.kind} samples for the task {manifest.task}; this model is trained on latents: "
            "prepare the shards with `python -m data_prep shards --for v2w` or `--for t2i`."
        )
    channels, frames, height, width = manifest.latent_shape
    if manifest.text_width != config.crossattn_emb_channels:
        raise UserError(
            f"{field} has text embeddings of width {manifest.text_width}, the model takes model.config."
            f"crossattn_emb_channels={config.crossattn_emb_channels}; prepare the shards with the model's text encoder."
        )
    if channels != config.in_channels:
        raise UserError(f"{field} has {channels} latent channels, the model takes {config.in_channels}.")
    if height % config.patch_spatial or width % config.patch_spatial:
        raise UserError(
            f"{field} has latents of {height}x{width}; both must be multiples of {config.patch_spatial}: prepare the "
            f"shards with a --height and --width that are multiples of {8 * config.patch_spatial}."
        )
    if not config.video_condition and frames > 1:
        raise UserError(
            f"{field} has clips of {frames} latent frames, but this is a text2image model; prepare the shards with "
            "--num-frames 1, or choose a v2w recipe."
        )
    for name, value, limit in (
        ("frames", frames, config.max_frames),
        ("height", height, config.max_img_h),
        ("width", width, config.max_img_w),
    ):
        if value > limit:
            raise UserError(f"{field} has latent {name} {value}; the model's positions end at {limit}.")


def check_initial_weights(model: Any, architecture: Mapping[str, Any]) -> None:
    """Compares `model.dit_path` with the network, reading no more than shapes.

    Raises:
        UserError: nothing there, damaged, or of another model.
    """
    from cosmos_nemo.checkpoints import convert, layout, published

    path = model.dit_path
    if not Path(path).exists():
        raise UserError(f"model.dit_path={path} does not exist; give a published checkpoint or a run folder.")
    if layout.is_training_checkpoint(path):
        saved = layout.find_checkpoint(path).run.get("model", {})
    else:
        saved = convert.infer_config(published.read_published(path, ema=model.use_ema))
    different = differences(saved, architecture)
    if different:
        raise UserError(f"model.dit_path={path} is of another model: {different}. Choose the recipe of its size.")


def describe(world: World, model: Any, data: Any, manifest: Manifest, work: Work, lr: str, max_steps: int) -> str:
    """The plan of a run, a few lines for people: what the batch is, and what the learning rate does."""
    _, frames, height, width = manifest.latent_shape
    samples = manifest.num_samples("train")
    notes = []
    if model.objective.state_t != frames:
        notes = [
            f"note         model.objective.state_t={model.objective.state_t} sets the noise level for clips of so many "
            f"latent frames; these have {frames}"
        ]
    return "\n".join(
        [
            f"data         {data.path}: {samples} train, {manifest.num_samples('val')} val samples of "
            f"{manifest.num_frames} frames {manifest.height}x{manifest.width} (latent {frames}x{height}x{width})",
            f"processes    {world.size} = tensor {world.tensor} x context {world.context} x data {world.data}",
            f"global batch {data.global_batch_size} = micro batch {data.micro_batch_size} x data {world.data} x "
            f"accumulation {world.accumulation}; {work.tokens:,} video tokens per step",
            f"steps        {max_steps}, {max_steps * data.global_batch_size / samples:.3g} passes over the data",
            f"lr           {lr}",
            *notes,
        ]
    )


def run_json(model: Any, data: Any, trainer: Any, optim: Any, log: RunLog, manifest: Manifest) -> dict[str, Any]:
    """What is written to run.json: all that generating, exporting and resuming have to know about a run."""
    config = optim.config
    return {
        "format": RUN_FORMAT,
        "recipe": log.recipe,
        "task": "video2world" if model.config.video_condition else "text2image",
        "model": architecture_of(model.config),
        "objective": asdict(model.objective),
        "seed": model.seed,
        "dit_path": model.dit_path,
        "data": {
            "path": str(Path(data.path).absolute()),
            "num_frames": manifest.num_frames,
            "height": manifest.height,
            "width": manifest.width,
            "fps": manifest.fps,
            "latent_shape": list(manifest.latent_shape),
            "text_width": manifest.text_width,
            "text_length": data.text_length,
            "video_tokenizer": asdict(manifest.video_tokenizer),
            "text_encoder": asdict(manifest.text_encoder),
        },
        "optimizer": {
            "lr": config.lr,
            "betas": [config.adam_beta1, config.adam_beta2],
            "eps": config.adam_eps,
            "weight_decay": config.weight_decay,
            "clip_grad": config.clip_grad,
            "global_batch_size": data.global_batch_size,
            "max_steps": trainer.max_steps,
        },
        "precision": str(trainer.precision),
    }


def check_schedule_of(optim: Any, trainer: Any) -> str:
    """See `optim.check_schedule`.

    Raises:
        UserError: also if the number of steps is not given.
    """
    if trainer.max_steps is None or trainer.max_steps < 1:
        raise UserError(f"trainer.max_steps={trainer.max_steps}; give the number of optimizer steps.")
    return check_schedule(optim, trainer.max_steps)

"""Settings of NeMo and Megatron that this project cannot honour: refused before anything starts, never overwritten."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import fiddle as fdl

from cosmos_nemo.errors import UserError


@dataclass(frozen=True)
class Rule:
    """A setting that must keep its value."""

    key: str
    """As in an override; may be a pattern."""
    values: tuple[Any, ...]
    """What it may be set to."""
    instead: str
    """What to do, or why nothing has to be done."""


_STRATEGY_SIZE = "set trainer.strategy.tensor_model_parallel_size, context_parallel_size or sequence_parallel"
_STAGES = "pipeline stages have equal numbers of layers; set trainer.strategy.pipeline_model_parallel_size alone"
_OF_STRATEGY = "trainer.strategy has the setting of this name"
_OF_PLUGINS = "set trainer.plugins.precision to bf16-mixed or 32"
_NO_FP8 = "products are in bf16 or fp32; set trainer.plugins.precision"
_CONTINUES = "a run continues with its optimizer; to start from its weights alone give them to a new run (log.name)"
_NO_DROPOUT = "these networks have no dropout; leave it out"

RULES = (
    Rule(
        "trainer.accumulate_grad_batches",
        (1,),
        "set data.global_batch_size; the micro batches that make it up are accumulated",
    ),
    Rule("trainer.gradient_clip_val", (None, 0), "set optim.config.clip_grad"),
    Rule("trainer.gradient_clip_algorithm", (None, "norm"), "optim.config.clip_grad clips the norm; leave it out"),
    Rule("trainer.precision", (None,), _OF_PLUGINS),
    Rule("trainer.logger", (None, False), "metrics.jsonl is always written, and log.wandb=online sends it to W&B"),
    Rule("trainer.enable_checkpointing", (None, True), "set log.save_every_n_steps and log.keep_last_k"),
    Rule("trainer.enable_progress_bar", (None, True), "send the output to a file, and plain lines are written"),
    Rule("trainer.enable_model_summary", (None, False), "the number of parameters is always printed; leave it out"),
    Rule("trainer.num_sanity_val_steps", (0,), "the first validation comes with trainer.val_check_interval"),
    Rule("trainer.use_distributed_sampler", (False,), "Energon deals the samples to the processes; leave it out"),
    Rule("trainer.fast_dev_run", (False, 0), "set trainer.max_steps=1"),
    Rule("trainer.barebones", (False,), "set log.save_every_n_steps to a large number and trainer.limit_val_batches=0"),
    Rule(
        "trainer.strategy.ckpt_async_save",
        (False,),
        "a checkpoint is published by a rename once its files are complete; leave it out",
    ),
    Rule(
        "trainer.strategy.ckpt_optim_fully_reshardable",
        (True,),
        "the other format cannot be loaded with fp32 weights, nor at another parallel size; leave it out",
    ),
    Rule("trainer.strategy.save_ckpt_format", ("torch_dist",), "checkpoints are Megatron's torch_dist; leave it out"),
    Rule("trainer.strategy.ckpt_load_optimizer", (True,), _CONTINUES),
    Rule("trainer.strategy.ckpt_save_optimizer", (True,), _CONTINUES),
    Rule("trainer.strategy.ckpt_load_main_params", (False,), _CONTINUES),
    Rule("trainer.strategy.restore_config", (None,), "resume.path continues a run, model.*_path starts from weights"),
    Rule("trainer.strategy.fsdp", (None,), _STRATEGY_SIZE),
    Rule("trainer.strategy.ddp.use_*fsdp", (False,), _STRATEGY_SIZE),
    Rule("trainer.strategy.ddp", ("megatron",), "gradients are summed by Megatron's own wrapper; leave it out"),
    Rule(
        "trainer.strategy.ddp.check_for_nan_in_grad",
        (False,),
        "loss and gradient norm are checked at every step, and the samples named; leave it out",
    ),
    Rule("trainer.strategy.data_sampler", (None,), "the data module tells Megatron the batch sizes; leave it out"),
    Rule("trainer.strategy.replace_progress_bar", (False,), "progress has lines or a bar of its own; leave it out"),
    Rule("trainer.strategy.expert_*_size", (None, 1), "these networks have no experts; leave it out"),
    Rule("trainer.strategy.encoder_*_size", (None, 0), "these networks have no encoder; leave it out"),
    Rule("trainer.strategy.virtual_pipeline_model_parallel_size", (None,), _STAGES),
    Rule("trainer.strategy.num_layers_in_*_pipeline_stage", (None,), _STAGES),
    Rule("trainer.strategy.account_for_*_in_pipeline_split", (False,), _STAGES),
    Rule("trainer.strategy.pipeline_model_parallel_layout", (None,), _STAGES),
    Rule("trainer.plugins.fp[48]*", (None, False), _NO_FP8),
    Rule("trainer.plugins.autocast_enabled", (False,), "the networks choose their dtypes themselves; leave it out"),
    Rule("model.config.fp[48]*", (None, False), _NO_FP8),
    Rule("model.config.*_parallel_size", (1, None), _OF_STRATEGY),
    Rule("model.config.sequence_parallel", (False,), _OF_STRATEGY),
    Rule("model.config.params_dtype", (), _OF_PLUGINS),
    Rule("model.config.pipeline_dtype", (None,), _OF_PLUGINS),
    Rule("model.config.bf16", (False,), _OF_PLUGINS),
    Rule("model.config.fp16", (False,), _OF_PLUGINS),
    Rule("model.config.*_dropout", (0,), _NO_DROPOUT),
    Rule(
        "model.config.recompute_modules",
        (None, "core_attn"),  # Megatron fills in the latter, which means nothing here
        "recompute_granularity=selective knows what is cheap; leave it out",
    ),
    Rule("model.config.cpu_offloading*", (False,), "set model.config.recompute_granularity=full to save memory"),
    Rule("model.config.num_moe_experts", (None,), "these networks have no experts; leave it out"),
)
"""Only what is set is looked at: the defaults of NeMo and Megatron may be others."""


def check_settings(parts: Mapping[str, Any]) -> None:
    """Refuse a setting that would have no effect, or a wrong one.

    Args:
        parts: by the first word of their keys (trainer, model): configurations, or objects made of them.

    Raises:
        UserError: names the setting and what to use instead.
    """
    for prefix, part in parts.items():
        for key, value in _settings(prefix, part):
            for rule in RULES:
                if fnmatchcase(key, rule.key) and value not in rule.values:
                    raise UserError(f"{key}={value} cannot be used here: {rule.instead}.")
    _check_callbacks(parts.get("trainer"))


def _check_callbacks(trainer: Any) -> None:
    from lightning.pytorch.callbacks import Checkpoint, ModelSummary, ProgressBar

    made_with = getattr(trainer, "__io__", trainer)
    callbacks = made_with.__arguments__.get("callbacks") if isinstance(made_with, fdl.Buildable) else None
    for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
        kind = fdl.get_callable(callback) if isinstance(callback, fdl.Buildable) else type(callback)
        if isinstance(kind, type) and issubclass(kind, Checkpoint | ModelSummary | ProgressBar):
            raise UserError(
                f"trainer.callbacks: {kind.__name__} cannot be used here; checkpoints are set in log, and this project "
                "has a display of its own."
            )


def _settings(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every setting in a part, with its key: what was given to a constructor, fields that are not at their default."""
    value = getattr(value, "__io__", value)  # NeMo's record of what an object was made with
    if isinstance(value, fdl.Buildable):
        yield from _all(key, value.__arguments__)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _settings(key, item)
    elif hasattr(value, "dtype_config"):  # a precision plugin
        dtypes = vars(value.dtype_config)
        yield from _all(key, {name: dtypes[name] for name in ("fp8", "fp4", "autocast_enabled")})
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        defaults = {f.name: f.default for f in dataclasses.fields(value)}
        yield from _all(key, {name: found for name, found in changed.items() if found != defaults[name]})
    else:
        yield key, value


def _all(key: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        yield from _settings(f"{key}.{name}", value)

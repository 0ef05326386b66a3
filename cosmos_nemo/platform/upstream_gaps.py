"""Gaps of Megatron-core and NeMo that are not about CPUs: they are closed on every machine."""

from __future__ import annotations

import functools
import importlib
import queue
import sys
import types
from collections.abc import Callable
from typing import Any

from cosmos_nemo.platform.adam import Adam

_closed: set[str] = set()


def close(nemo: bool = False) -> None:
    """Closes the gaps listed in `table.GAPS`, once.

    Args:
        nemo: also those of NeMo; imports NeMo Lightning.
    """
    for fix in (_give_megatron_an_adam, _no_manager_process):
        _once(fix)
    if nemo:
        for fix in (_skip_empty_timers, _no_distillation, _no_modelopt, _no_telemetry):
            _once(fix)


def _once(fix: Callable[[], None]) -> None:
    if fix.__name__ not in _closed:
        fix()
        _closed.add(fix.__name__)


def _give_megatron_an_adam() -> None:
    optimizer = importlib.import_module("megatron.core.optimizer")
    if not optimizer.USING_PYTORCH_OPTIMIZER:
        return  # Transformer Engine or Apex is installed
    optimizer.Adam = Adam
    optimizer.USING_PYTORCH_OPTIMIZER = False
    sharded = sys.modules["megatron.core.optimizer.distrib_optimizer"]
    # "Apex" selects the branches that keep `step` in the parameter group, as FusedAdam and our Adam do.
    vars(sharded).update(Adam=Adam, HAVE_APEX_OR_TE=True, USING_APEX_OPTIMIZER=True)


def _no_manager_process() -> None:
    writer = importlib.import_module("megatron.core.dist_checkpointing.strategies.filesystem_async")
    results: queue.Queue[Any] = queue.Queue()
    writer._get_write_results_queue = lambda: results


def _skip_empty_timers() -> None:
    printer = importlib.import_module("nemo.lightning.pytorch.callbacks.progress_printer").ProgressPrinter
    original = printer.log_megatron_timers

    def log_megatron_timers(self: Any, timers: Any) -> Any:
        return original(self, timers) if timers._timers else None

    printer.log_megatron_timers = log_megatron_timers


def _no_distillation() -> None:
    step = importlib.import_module("nemo.lightning.megatron_parallel").MegatronStep
    step.adjust_tensor_shapes_fn = property(lambda self: None)


def _no_modelopt() -> None:
    strategy = importlib.import_module("nemo.lightning.pytorch.strategies.megatron_strategy").MegatronStrategy
    for name in ("save_checkpoint", "load_checkpoint"):
        setattr(strategy, name, _without_modelopt(getattr(strategy, name)))


def _without_modelopt(method: Callable[..., Any]) -> Callable[..., Any]:
    name = "nemo.collections.llm.modelopt.model_utils"
    stand_in = types.ModuleType(name)
    vars(stand_in).update(save_modelopt_state=lambda *args: None, restore_modelopt_state=lambda *args: None)

    @functools.wraps(method)
    def run(*args: Any, **kwargs: Any) -> Any:
        if name in sys.modules:
            return method(*args, **kwargs)
        sys.modules[name] = stand_in
        try:
            return method(*args, **kwargs)
        finally:
            del sys.modules[name]

    return run


def _no_telemetry() -> None:
    group = importlib.import_module("nemo.lightning.callback_group").CallbackGroup.get_instance()
    group._callbacks.clear()

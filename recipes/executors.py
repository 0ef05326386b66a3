"""Where a recipe runs. The only file that knows processes, launchers and environment variables.

`EXECUTORS` maps the word after `run.executor=` to a function that returns a `run.Config` of a NeMo-Run executor;
`run.executor.KEY=value` sets its fields. A cluster is added as one more function and one more line of the table.
"""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

from cosmos_nemo.errors import UserError


def local(ntasks_per_node: int | None = None) -> Any:
    """This machine, under torchrun.

    Args:
        ntasks_per_node: processes; None leaves it to the launch layer, which takes the recipe's `trainer.devices`.

    Returns:
        `run.Config` of `run.LocalExecutor`.
    """
    import nemo_run as run

    return run.Config(
        run.LocalExecutor,
        ntasks_per_node=ntasks_per_node,
        nodes=1,
        launcher="torchrun",
        env_vars=run_environment(),
    )


EXECUTORS: dict[str, Callable[..., Any]] = {"local": local}


def describe(executor: Any) -> str:
    """An executor in a few words."""
    name = executor.__fn_or_cls__.__name__
    return f"{executor.nodes} x {executor.ntasks_per_node} processes, {executor.launcher}, {name}"


def run_environment() -> dict[str, str]:
    """Environment variables that every process of a run gets on top of the caller's own."""
    return {
        # The torchrun of this very environment, also when its bin folder is not on the caller's PATH.
        "PATH": str(pathlib.Path(sys.executable).parent),
        "LOGLEVEL": os.environ.get("LOGLEVEL", "WARNING"),  # torchrun's own; INFO is 40 lines before the first step
    }


def world_from_launcher() -> tuple[int, int] | None:
    """(processes on this node, nodes) when torchrun or another launcher started this process, else None."""
    if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
        return None
    world = int(os.environ["WORLD_SIZE"])
    local_world = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    return local_world, max(1, world // local_world)


def device_count(devices: Any) -> int:
    """Number of processes per node that `trainer.devices` stands for: a number, a list of indices, or "auto".

    Raises:
        UserError: it is none of these.
    """
    if isinstance(devices, (list, tuple)):
        return len(devices)
    if devices in ("auto", -1, "-1"):
        return max(1, cuda_device_count())
    try:
        count = int(devices)
    except (TypeError, ValueError):
        count = 0
    if count < 1:
        raise UserError(f"trainer.devices={devices}: needs a number of processes per node, a list of indices, or auto")
    return count


def cuda_device_count() -> int:
    """CUDA devices of this machine, without starting CUDA in this process."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0

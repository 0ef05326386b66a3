"""What can be known wrong before a process is started. `train` checks again what depends on the data alone.

The checks read the recipe's configs; nothing but the small configuration objects is built.
"""

from __future__ import annotations

import dataclasses
import pathlib
import types
from typing import TYPE_CHECKING

import fiddle as fdl

from cosmos_nemo.errors import UserError
from recipes import executors

if TYPE_CHECKING:
    from cosmos_nemo.lightning.preflight import Division
    from cosmos_nemo.parallel.sizes import ParallelSizes


def division(task: fdl.Buildable) -> Division:
    """Divide the processes of the recipe as its strategy and batch sizes say.

    Raises:
        UserError: the sizes do not divide; the message has the legal values.
    """
    from cosmos_nemo.lightning import preflight

    nodes = task.trainer.num_nodes
    for config, where, names in (
        (task.trainer, "trainer", ("num_nodes",)),
        (task.data, "data", ("micro_batch_size", "global_batch_size")),
    ):
        for name in names:
            value = getattr(config, name)
            if not isinstance(value, int) or value < 1:
                raise UserError(f"{where}.{name}={value}: needs a whole number of at least 1")
    devices = executors.device_count(task.trainer.devices)
    trainer = types.SimpleNamespace(num_devices=devices, num_nodes=nodes, strategy=task.trainer.strategy)
    return preflight.divide(trainer, task.data)


def settings(task: fdl.Buildable) -> None:
    """Look for settings that would have no effect, or a wrong one.

    Raises:
        UserError: names the setting and what to use instead.
    """
    from cosmos_nemo.lightning.settings import check_settings

    check_settings({"trainer": task.trainer, "model": task.model})


def model(task: fdl.Buildable, sizes: ParallelSizes) -> None:
    """Construct the model's configuration (not its network) with the parallel sizes it will have.

    Raises:
        UserError: the configuration refuses them, for example heads that do not divide, or the family does.
    """
    import torch

    from cosmos_nemo.lightning import preflight

    try:
        module = fdl.build(task.model)
    except UserError:
        raise
    except (ValueError, AssertionError) as error:  # Megatron's own checks in TransformerConfig
        raise UserError(f"model.config: {_first_line(error)}") from None
    preflight.check_parallelism(module, sizes)
    config = task.model.__arguments__.get("config")
    if config is None:
        return
    # The strategy and the precision plugin copy these into the configuration before the network is built.
    copied = dataclasses.asdict(sizes) | {"pipeline_dtype": torch.float32}
    try:
        fdl.get_callable(config)(**(config.__arguments__ | copied))
    except (ValueError, AssertionError) as error:
        raise UserError(f"model.config: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    """The message in one line, without what Fiddle appends to it."""
    return " ".join(str(error).partition("\n\nFiddle context")[0].split())


def schedule(task: fdl.Buildable) -> str:
    """Check the learning rate over the whole run.

    Returns: the learning rate at start, peak and end, for people.

    Raises:
        UserError: it is 0, or the schedule does not fit the number of steps.
    """
    from cosmos_nemo.lightning import preflight

    if _counts_epochs(task):
        return "known when the data is opened: trainer.max_epochs counts passes over it"
    return preflight.check_schedule_of(fdl.build(task.optim), task.trainer)


def _counts_epochs(task: fdl.Buildable) -> bool:
    return (task.trainer.max_steps or -1) < 1 and (task.trainer.max_epochs or -1) >= 1


def inputs(task: fdl.Buildable) -> None:
    """Check that what the run reads is there, and that data and model fit.

    Raises:
        UserError: data.path is not set, incomplete or made for another model; another path does not exist.
    """
    from cosmos_nemo.lightning import preflight

    model = fdl.build(task.model)
    preflight.check_data(model, fdl.build(task.data))
    for key, value in ((f"model.{model.weights_field}", model.weights_path), ("resume.path", task.resume.path)):
        if value and not pathlib.Path(value).exists():
            raise UserError(f"{key}={value}: no such file or folder")


def devices(task: fdl.Buildable) -> None:
    """Check that this machine has the GPUs the recipe asks for.

    Raises:
        UserError: it has fewer.
    """
    if task.trainer.accelerator not in ("gpu", "cuda"):
        return
    wanted, found = executors.device_count(task.trainer.devices), executors.cuda_device_count()
    if not found:
        raise UserError(
            "this recipe needs CUDA GPUs and there are none here; use a tiny recipe, or trainer.accelerator=cpu"
        )
    if wanted > found:
        raise UserError(f"trainer.devices={wanted}, but there are {found} GPUs here; set trainer.devices={found}")

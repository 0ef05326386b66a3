"""What can be known to be wrong before anything is built, and what a run will do, in words."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosmos_nemo.checkpoints.fused_adapters import is_fused
from cosmos_nemo.errors import UserError
from cosmos_nemo.lightning.optim import check_schedule
from cosmos_nemo.lightning.throughput import Work
from cosmos_nemo.parallel.sizes import ParallelSizes
from cosmos_nemo.runs.log import RunLog
from cosmos_nemo.runs.record import RunData, RunRecord, differences

if TYPE_CHECKING:
    from cosmos_nemo.data.dataset import Dataset
    from cosmos_nemo.lightning.data import EnergonDataModule
    from cosmos_nemo.lightning.module import CosmosModule


@dataclass(frozen=True, kw_only=True)
class Division:
    """How processes and samples are divided in training."""

    processes: int
    """All of the run."""
    sizes: ParallelSizes
    """How many of them share a copy of the network."""
    data_parallel_size: int
    """Copies of the network, which see different samples."""
    accumulation: int
    """Micro batches per optimizer step."""

    def words(self) -> str:
        """Return how the processes are divided, in words."""
        return f"{self.processes} = {self.sizes.words()} x data {self.data_parallel_size}"

    def batch_words(self, data: Any) -> str:
        """Return what the global batch of a data module consists of, in words."""
        ranks, accumulation = f"data {self.data_parallel_size}", f"accumulation {self.accumulation}"
        return f"{data.global_batch_size} = micro batch {data.micro_batch_size} x {ranks} x {accumulation}"


def divide(trainer: Any, data: Any) -> Division:
    """Divide the processes as the strategy says, and the global batch over them.

    Raises:
        UserError: they do not divide; with the legal values.
    """
    processes = int(os.environ.get("WORLD_SIZE", trainer.num_devices * trainer.num_nodes))
    try:
        sizes = ParallelSizes.of(trainer.strategy)
        ranks = sizes.data_parallel_size(processes, start="(trainer.devices x trainer.num_nodes)")
    except UserError as error:
        raise UserError(f"trainer.strategy: {error}") from None
    step = data.micro_batch_size * ranks
    if data.global_batch_size % step:
        lower = data.global_batch_size // step * step
        raise UserError(
            f"data.global_batch_size={data.global_batch_size} is not a multiple of data.micro_batch_size="
            f"{data.micro_batch_size} x {ranks} data-parallel ranks; use "
            f"{f'{lower} or ' if lower else ''}{lower + step}."
        )
    return Division(
        processes=processes, sizes=sizes, data_parallel_size=ranks, accumulation=data.global_batch_size // step
    )


def check_parallelism(model: CosmosModule, sizes: ParallelSizes) -> None:
    """Refuse kinds of model parallelism that the family does not support.

    Raises:
        UserError: names the setting.
    """
    try:
        sizes.allow(model.family.parallelism, who=f"{model.family.title} training")
    except UserError as error:
        raise UserError(f"trainer.strategy: {error}") from None


def check_data(model: CosmosModule, data: EnergonDataModule) -> list[Dataset]:
    """Opens the data sets and compares them with the network.

    Returns:
        the data set of training, and that of validation if it is another one or is cut otherwise.

    Raises:
        UserError: missing, incomplete, truncated, or made for another network.
    """
    datasets = data.open(model.family.reads, seed=model.seed)
    for dataset in datasets:
        model.check_data(dataset)
    train, val = datasets[0], datasets[-1]
    for name in ("latent_shape", "token_shape"):
        wanted, found = getattr(train, name), getattr(val, name)
        if wanted != found:
            raise UserError(
                f"validation has samples of another size ({name} {found}) than training ({wanted}); prepare "
                "data.val_path like data.path, and leave data.val_window out."
            )
    return datasets


def settle_steps(trainer: Any, dataset: Dataset, data: EnergonDataModule) -> str:
    """Makes `trainer.max_steps` the length of the run, of two limits the shorter one, and returns it in words.

    `trainer.max_epochs` counts passes over the train split. Lightning itself counts them by the ends of a loader, but
    ours goes on from one pass to the next in the middle of a batch.

    Raises:
        UserError: neither is set, or `max_epochs` makes no sense.
    """
    steps = trainer.max_steps or -1
    epochs = trainer.max_epochs if trainer.max_epochs is not None else -1
    if steps < 1 and epochs < 1:
        raise UserError(f"trainer.max_steps={steps}; give the number of optimizer steps, or trainer.max_epochs.")
    words = ""
    if epochs >= 1:
        wanted = math.ceil(epochs * dataset.num_train / data.global_batch_size)
        words = f", the {epochs} passes of trainer.max_epochs"
        if 1 <= steps < wanted:
            words = f", which end before the {epochs} passes of trainer.max_epochs ({wanted} steps)"
        else:
            steps = wanted
    trainer.fit_loop.epoch_loop.max_steps = steps
    trainer.fit_loop.max_epochs = -1
    passes = steps * data.global_batch_size / dataset.num_train
    return f"{steps}, {passes:.3g} passes over the data{words}"


def describe(
    division: Division,
    model: CosmosModule,
    data: EnergonDataModule,
    dataset: Dataset,
    work: Work,
    *,
    lr: str,
    steps: str,
) -> str:
    """The plan of a run, a few lines for people: what the batch is, and what the learning rate does."""
    return "\n".join(
        [
            f"data         {data.path}: {dataset.num_train} train, {dataset.num_val} val samples of {dataset.words()}",
            f"processes    {division.words()}",
            f"global batch {division.batch_words(data)}; {work.tokens:,} {work.unit} per step",
            f"steps        {steps}",
            f"lr           {lr}",
            *([f"average      {model.averaging.words()}"] if model.averaging else []),
            *(f"note         {note}" for note in model.notes(dataset)),
        ]
    )


def run_record(
    model: CosmosModule, data: EnergonDataModule, trainer: Any, optim: Any, log: RunLog, dataset: Dataset
) -> RunRecord:
    """Return what run.json is to say: all that generating, exporting and resuming have to know about a run."""
    config, architecture = optim.config, model.architecture
    return RunRecord(
        family=architecture.family.name,
        task=architecture.task,
        model=architecture.fields,
        recipe=log.recipe,
        **model.settings(),
        averaging=model.averaging.to_json(),
        seed=model.seed,
        initial_weights=model.weights_path,
        data=RunData(path=str(Path(data.path).absolute()), **dataset.facts()),
        optimizer={
            "lr": config.lr,
            "betas": [config.adam_beta1, config.adam_beta2],
            "eps": config.adam_eps,
            "weight_decay": config.weight_decay,
            "clip_grad": config.clip_grad,
            "global_batch_size": data.global_batch_size,
            "max_steps": trainer.max_steps,
        },
        precision=str(trainer.precision),
    )


def check_adapters(saved: RunRecord, now: RunRecord, *, weights_field: str) -> None:
    """Refuse to continue a run whose adapters are not those that are about to be trained.

    Args:
        saved: what the checkpoint's run.json says.
        now: what run.json is going to say.
        weights_field: the setting with which a new run starts from the checkpoint, for messages.

    Raises:
        UserError: only one of them has adapters, they differ, or the checkpoint's are of an earlier version.
    """
    had, have = saved.lora, now.lora
    instead = f"start a new run (another log.name) from it with model.{weights_field}, which merges them"
    if had and is_fused(had):
        raise UserError(
            "the checkpoint's adapters are of an earlier version, which had one for queries, keys and values together: "
            f"their training cannot be continued; {instead}."
        )
    if bool(had) != bool(have):
        remedy = f"set model.lora as it was, or {instead}" if had else "unset model.lora, or choose another log.name"
        raise UserError(f"the checkpoint was made {'with' if had else 'without'} adapters; {remedy}.")
    if had and have:
        names = ("rank", "alpha", "scale", "targets", "blocks")
        different = differences(had, {name: have[name] for name in names})
        if different:
            raise UserError(f"the checkpoint has other adapters: {different}. Set model.lora as it was, or {instead}.")


def check_schedule_of(optim: Any, trainer: Any) -> str:
    """See `optim.check_schedule`.

    Raises:
        UserError: also if the number of steps is not given.
    """
    if trainer.max_steps is None or trainer.max_steps < 1:
        raise UserError(f"trainer.max_steps={trainer.max_steps}; give the number of optimizer steps.")
    return check_schedule(optim, trainer.max_steps)

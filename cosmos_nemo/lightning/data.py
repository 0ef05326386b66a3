"""The Lightning data module over Energon shards."""

from __future__ import annotations

import abc
import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from megatron.core import parallel_state
from nemo.lightning.megatron_parallel import MegatronStep
from nemo.lightning.pytorch.plugins import MegatronDataSampler

from cosmos_nemo.errors import UserError
from cosmos_nemo.lightning.family import Dataset
from cosmos_nemo.lightning.reader_state import from_plain, to_plain
from cosmos_nemo.lightning.stream import FromTheStart, TimedStream, state_for_rank

if TYPE_CHECKING:
    from cosmos_nemo.data.loader import SampleTaskEncoder, SkippedSamples
    from cosmos_nemo.data.manifest import Manifest


class MicroBatches(MegatronDataSampler):
    """Tells Megatron the batch sizes. Energon shards the data, so the loader is left as it is."""

    def transform_dataloader(self, dataloader: Any, consumed_samples: int = 0) -> Any:
        """Returns the loader itself."""
        return dataloader

    def on_megatron_step_start(self, step: MegatronStep) -> MegatronStep:
        """Sets the batch sizes; validation takes one micro batch at a time, so that no part of a set is lost."""
        step = super().on_megatron_step_start(step)
        return dataclasses.replace(step, num_microbatches=1) if step.forward_only else step


class EnergonDataModule(pl.LightningDataModule, abc.ABC):
    """Reads Energon shards. A family derives its own, which knows the task encoder that makes its batches.

    Args:
        path: folder of the shards, or the file of a blend that `python -m data_prep blend` wrote.
        val_path: another folder whose `val` split is used for validation; None takes the one of `path`, if any.
        micro_batch_size: samples per forward pass on one rank.
        global_batch_size: samples per optimizer step over all ranks; the rest is made up by accumulation.
        num_workers: reader processes per rank; 0 reads in the training process.
        shuffle_buffer_size: see `cosmos_nemo.data.loader.train_loader`; None shuffles all samples exactly.
        seed: of the shuffle.
    """

    def __init__(
        self,
        path: str = "",
        val_path: str | None = None,
        micro_batch_size: int = 1,
        global_batch_size: int = 1,
        num_workers: int = 2,
        shuffle_buffer_size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.path = path
        self.val_path = val_path
        self.micro_batch_size = micro_batch_size
        self.global_batch_size = global_batch_size
        self.num_workers = num_workers
        self.shuffle_buffer_size = shuffle_buffer_size
        self.seed = seed
        self.data_sampler = MicroBatches(
            seq_len=1, micro_batch_size=micro_batch_size, global_batch_size=global_batch_size, output_log=False
        )
        self.skipped: Any = None
        self.stream: TimedStream | None = None
        self._restored: dict[str, Any] | None = None
        self._resumed_at = (0, 0)  # optimizer step and consumed samples where this process took over

    @abc.abstractmethod
    def make_encoder(self, manifest: Manifest | None, skipped: SkippedSamples) -> SampleTaskEncoder[Any, Any]:
        """The task encoder that makes the family's batches; see `cosmos_nemo.data.loader`.

        Args:
            manifest: of the data set; None for one without.
            skipped: counts the samples that cannot be read.
        """

    def make_val_encoder(self, manifest: Manifest | None, skipped: SkippedSamples) -> SampleTaskEncoder[Any, Any]:
        """The same for validation."""
        return self.make_encoder(manifest, skipped)

    def finish_batch(self, batch: Any) -> Any:
        """What is left to be done to a batch in the training process, with its accelerator."""
        return batch

    def open(self) -> list[Dataset]:
        """Look at the folders, of training first.

        Raises:
            UserError: missing, incomplete, truncated, or without train samples.
        """
        if not self.path:
            raise UserError("data.path is not set; give the folder that `python -m data_prep shards` wrote.")
        found = []
        for field, path in (("data.path", self.path), ("data.val_path", self.val_path)):
            if not path:
                continue
            if not Path(path).exists():
                raise UserError(f"{field}={path} does not exist; make it with `python -m data_prep shards`.")
            found.append(self.open_dataset(field, path))
        if not found[0].num_train:
            raise UserError(f"data.path={self.path} has no train samples; prepare it with more videos.")
        return found

    def open_dataset(self, field: str, path: str) -> Dataset:
        """Look at one folder.

        Raises:
            UserError: incomplete or truncated.
        """
        from cosmos_nemo.data import bare
        from cosmos_nemo.data.loader import open_dataset

        manifest = open_dataset(path)
        if manifest is not None:
            train, val = manifest.num_samples("train"), manifest.num_samples("val")
        else:
            train, val = (bare.count_samples(Path(path), split) for split in ("train", "val"))
        return Dataset(field=field, path=path, manifest=manifest, num_train=train, num_val=val)

    def train_dataloader(self) -> TimedStream:
        """The endless stream of this rank, continued from a checkpoint if one was loaded."""
        if self.stream is not None:
            return self.stream
        from cosmos_nemo.data.loader import SkippedSamples, train_loader

        if self.trainer is not None and self.trainer.ckpt_path and self._restored is None:
            raise UserError(f"{self.trainer.ckpt_path} holds no data position; the run cannot be continued exactly.")
        rank, size, group = data_parallel_world()
        self.skipped = SkippedSamples()
        loader = train_loader(
            self.path,
            self.make_encoder,
            dp_rank=rank,
            dp_size=size,
            dp_group=group,
            micro_batch_size=self.micro_batch_size,
            num_workers=self.num_workers,
            shuffle_buffer_size=self.shuffle_buffer_size,
            seed=self.seed,
            skipped=self.skipped,
        )
        if self._restored is not None:
            self._restore(loader, rank, size)
        self.stream = TimedStream(loader, self.finish_batch)
        return self.stream

    def val_dataloader(self) -> Any:
        """The validation samples of this rank in fixed order; an empty list if there are none."""
        from cosmos_nemo.data.loader import val_loader

        rank, size, group = data_parallel_world()
        make = functools.partial(
            val_loader,
            self.val_path or self.path,
            self.make_val_encoder,
            dp_rank=rank,
            dp_size=size,
            dp_group=group,
            micro_batch_size=self.micro_batch_size,
            num_workers=0,
        )
        loader = make()
        return [] if loader is None else FromTheStart(make, len(loader), self.finish_batch)

    def teardown(self, stage: str) -> None:
        """Ends the reader processes."""
        if self.stream is not None:
            self.stream.close()

    def consumed_samples(self, step: int) -> int:
        """Samples trained on after `step` optimizer steps, over all ranks and restarts."""
        since, before = self._resumed_at
        return before + (step - since) * self.global_batch_size

    def state_dict(self) -> dict[str, Any]:
        """Position of every data-parallel rank; the same on all ranks, because only rank 0's is written."""
        _, size, group = data_parallel_world()
        mine = to_plain(self.stream.loader.save_state_rank()) if self.stream is not None else None
        states: list[Any] = [None] * size
        torch.distributed.all_gather_object(states, mine, group=group)
        step = self.trainer.global_step
        return {
            "step": step,
            "consumed_samples": self.consumed_samples(step),
            "dataset": self._identity(),
            "seed": self.seed,
            "readers": states,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remembers the position; it is applied when the stream is made.

        Raises:
            UserError: the checkpoint was made on other data.
        """
        if state_dict["dataset"] != self._identity():
            raise UserError(
                f"data.path={self.path} is not the data set the checkpoint was made on; to train on other data start a "
                f"new run (another log.name) with model.{self.trainer.lightning_module.weights_field}=RUN_FOLDER."
            )
        self._restored = state_dict
        self._resumed_at = (state_dict["step"], state_dict["consumed_samples"])

    def _restore(self, loader: Any, rank: int, size: int) -> None:
        assert self._restored is not None
        states = [from_plain(state) for state in self._restored["readers"]]
        state = state_for_rank(states, rank=rank, size=size, num_workers=self.num_workers)
        try:
            loader.restore_state_rank(state)
        except (AssertionError, ValueError) as error:
            raise UserError(
                f"the data position of the checkpoint cannot be restored ({str(error) or 'other loader settings'}); "
                "use the data.micro_batch_size and data.num_workers it was saved with."
            ) from error
        self._restored = None

    def _identity(self) -> str:
        """Digest of what the dataset consists of, wherever it lies."""
        from cosmos_nemo.data.blend import read_blend

        place = Path(self.path)
        contents: Any = _shards(place) if place.is_dir() else [[p.weight, _shards(p.path)] for p in read_blend(place)]
        return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def _shards(folder: Path) -> Any:
    """What the manifest says about the shards; of a bare folder, their names, samples and sizes."""
    manifest = folder / "manifest.json"
    if manifest.is_file():
        return json.loads(manifest.read_text())["shards"]
    from cosmos_nemo.data import bare

    counts = bare.shard_counts(folder)
    return [(name, count, (folder / name).stat().st_size) for name, count in sorted(counts.items())]


def data_parallel_world() -> tuple[int, int, Any]:
    """Rank, size and group among the processes that read different samples."""
    return (
        parallel_state.get_data_parallel_rank(),
        parallel_state.get_data_parallel_world_size(),
        parallel_state.get_data_parallel_group(),
    )

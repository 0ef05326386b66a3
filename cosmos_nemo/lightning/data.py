"""The Lightning data module over Energon shards."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from megatron.core import parallel_state
from nemo.lightning.megatron_parallel import MegatronStep
from nemo.lightning.pytorch.plugins import MegatronDataSampler

from cosmos_nemo.data.dataset import Dataset, dataset_digest
from cosmos_nemo.data.window import ClipWindow
from cosmos_nemo.errors import UserError
from cosmos_nemo.lightning.reader_state import from_plain, to_plain
from cosmos_nemo.lightning.stream import FromTheStart, TimedStream, state_for_rank

if TYPE_CHECKING:
    from cosmos_nemo.data.encoders import SkippedSamples
    from cosmos_nemo.data.reading import Reading


class MicroBatches(MegatronDataSampler):
    """Tells Megatron the batch sizes. Energon shards the data, so the loader is left as it is."""

    def transform_dataloader(self, dataloader: Any, consumed_samples: int = 0) -> Any:
        """Returns the loader itself."""
        return dataloader

    def on_megatron_step_start(self, step: MegatronStep) -> MegatronStep:
        """Sets the batch sizes; validation takes one micro batch at a time, so that no part of a set is lost."""
        step = super().on_megatron_step_start(step)
        return dataclasses.replace(step, num_microbatches=1) if step.forward_only else step


class EnergonDataModule(pl.LightningDataModule):
    """Reads Energon shards for any family: latents, token ids or clips of video files; see `cosmos_nemo.data.reading`.

    Args:
        path: folder of the shards, or the file of a blend that `python -m data_prep blend` wrote.
        val_path: another folder whose `val` split is used for validation; None takes the one of `path`, if any.
        text_length: tokens every text embedding is padded to; None for networks without text.
        window: what is cut out of video files; not used for latents and token ids.
        val_window: the same for validation, for which nothing in it is random; None takes the sizes of `window`.
        tokenizer_path: encodes video files for networks that read latents or token ids.
        micro_batch_size: samples per forward pass on one rank.
        global_batch_size: samples per optimizer step over all ranks; the rest is made up by accumulation.
        num_workers: reader processes per rank; 0 reads in the training process.
        shuffle_buffer_size: see `cosmos_nemo.data.loader.train_loader`; None shuffles all samples exactly.
        seed: of the shuffle and of the cuts; None takes the run's, and a resumed run keeps the one it has.
    """

    def __init__(
        self,
        path: str = "",
        val_path: str | None = None,
        text_length: int | None = None,
        window: ClipWindow | None = None,
        val_window: ClipWindow | None = None,
        tokenizer_path: str | None = None,
        micro_batch_size: int = 1,
        global_batch_size: int = 1,
        num_workers: int = 2,
        shuffle_buffer_size: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.path = path
        self.val_path = val_path
        self.text_length = text_length
        self.window = window
        self.val_window = val_window
        self.tokenizer_path = tokenizer_path
        self.micro_batch_size = micro_batch_size
        self.global_batch_size = global_batch_size
        self.num_workers = num_workers
        self.shuffle_buffer_size = shuffle_buffer_size
        self.seed = seed
        self.data_sampler = MicroBatches(
            seq_len=1, micro_batch_size=micro_batch_size, global_batch_size=global_batch_size, output_log=False
        )
        self.reading: Reading | None = None  # set by `open`
        self.skipped: SkippedSamples | None = None
        self.stream: TimedStream | None = None
        self._restored: dict[str, Any] | None = None
        self._resumed_at = (0, 0)  # optimizer step and consumed samples where this process took over

    def open(self, kind: str, *, seed: int) -> list[Dataset]:
        """Look at what lies at `path` and, if it is another set or has another window, at what is validated on.

        Args:
            kind: latent, tokens or video: what the model reads.
            seed: of the run.

        Raises:
            UserError: missing, incomplete, truncated, or without train samples.
        """
        from cosmos_nemo.data.reading import Reading

        if not self.path:
            raise UserError("data.path is not set; give the folder that `python -m data_prep shards` wrote.")
        for field in ("path", "val_path"):
            path = getattr(self, field)
            if path and not Path(path).exists():
                raise UserError(f"data.{field}={path} does not exist; make it with `python -m data_prep shards`.")
        self.reading = Reading(
            kind=kind,
            text_length=self.text_length,
            window=self.window,
            val_window=self.val_window,
            tokenizer_path=self.tokenizer_path,
            seed=seed if self.seed is None else self.seed,
        )
        found = [self.reading.open(self.path)]
        if not found[0].num_train:
            raise UserError(f"data.path={self.path} has no train samples; prepare it with more videos.")
        if self.val_path:
            found.append(self.reading.open_val(self.val_path))
        elif self.val_window:
            found.append(self.reading.open_val(self.path, field="data.path"))
        return found

    def train_dataloader(self) -> TimedStream:
        """The endless stream of this rank, continued from a checkpoint if one was loaded."""
        if self.stream is not None:
            return self.stream
        from cosmos_nemo.data.encoders import SkippedSamples
        from cosmos_nemo.data.loader import train_loader

        assert self.reading is not None, "`open` comes first"
        if self.trainer is not None and self.trainer.ckpt_path and self._restored is None:
            raise UserError(f"{self.trainer.ckpt_path} holds no data position; the run cannot be continued exactly.")
        rank, size, group = data_parallel_world()
        self.skipped = SkippedSamples()
        loader = train_loader(
            self.path,
            self.reading.task_encoder,
            dp_rank=rank,
            dp_size=size,
            dp_group=group,
            micro_batch_size=self.micro_batch_size,
            num_workers=self.num_workers,
            shuffle_buffer_size=self.shuffle_buffer_size,
            seed=self.reading.seed,
            skipped=self.skipped,
        )
        if self._restored is not None:
            self._restore(loader, rank, size)
        self.stream = TimedStream(loader, self.reading.finish)
        return self.stream

    def val_dataloader(self) -> Any:
        """The validation samples of this rank in fixed order; an empty list if there are none."""
        from cosmos_nemo.data.loader import val_loader

        assert self.reading is not None, "`open` comes first"
        rank, size, group = data_parallel_world()
        make = functools.partial(
            val_loader,
            self.val_path or self.path,
            self.reading.val_task_encoder,
            dp_rank=rank,
            dp_size=size,
            dp_group=group,
            micro_batch_size=self.micro_batch_size,
            num_workers=0,
        )
        loader = make()
        return [] if loader is None else FromTheStart(make, len(loader), self.reading.finish)

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
        assert self.reading is not None, "`open` comes first"
        _, size, group = data_parallel_world()
        mine = to_plain(self.stream.loader.save_state_rank()) if self.stream is not None else None
        states: list[Any] = [None] * size
        torch.distributed.all_gather_object(states, mine, group=group)
        trainer: Any = self.trainer
        step = trainer.global_step
        return {
            "step": step,
            "consumed_samples": self.consumed_samples(step),
            "dataset": dataset_digest(self.path),
            "seed": self.reading.seed,
            "readers": states,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remembers the position; it is applied when the stream is made.

        Raises:
            UserError: the checkpoint was made on other data.
        """
        if state_dict["dataset"] != dataset_digest(self.path):
            trainer: Any = self.trainer
            raise UserError(
                f"data.path={self.path} is not the data set the checkpoint was made on; to train on other data start a "
                f"new run (another log.name) with model.{trainer.lightning_module.weights_field}=RUN_FOLDER."
            )
        assert self.reading is not None, "`open` comes first"
        if self.seed is None:
            self.reading.seed = state_dict["seed"]
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


def data_parallel_world() -> tuple[int, int, Any]:
    """Rank, size and group among the processes that read different samples."""
    return (
        parallel_state.get_data_parallel_rank(),
        parallel_state.get_data_parallel_world_size(),
        parallel_state.get_data_parallel_group(),
    )

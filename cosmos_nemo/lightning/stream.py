"""The training stream: waiting time, and its position across restarts. The validation set: the same every time."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from cosmos_nemo.data.reading_errors import plain_error
from cosmos_nemo.errors import UserError


class TimedStream:
    """An endless iterable over a savable loader that measures how long training waits for data.

    It has no length on purpose: Lightning would end an epoch there.

    Args:
        loader: gives batches.
        finish: what is left to be done to a batch in this process; its time does not count as waiting.
    """

    def __init__(self, loader: Any, finish: Callable[[Any], Any] = lambda batch: batch) -> None:
        self.loader = loader
        self.finish = finish
        self.wait_seconds = 0.0
        """Seconds spent waiting since `take_wait_seconds` was last called."""

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        # The first `next` forks the readers, and each begins by collecting garbage. What it would find must be gone
        # before: an old process group, say, waits on its end for threads that the fork does not have, forever.
        gc.collect()
        while True:
            start = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            except ValueError as error:
                raise plain_error(error) from error
            self.wait_seconds += time.perf_counter() - start
            yield self.finish(batch)

    def take_wait_seconds(self) -> float:
        """Returns the seconds waited so far and starts again from zero."""
        seconds, self.wait_seconds = self.wait_seconds, 0.0
        return seconds

    def close(self) -> None:
        """Ends the reader processes; left alone, each of them holds up the end of the run for five seconds."""
        readers = getattr(self.loader, "_iterator", None)
        if readers is None or not readers._worker_pids_set:
            return
        # In this order: torch raises in the main thread when a process that it still watches dies.
        torch._C._remove_worker_pids(id(readers))
        readers._worker_pids_set = False
        for process in readers._workers:
            process.kill()
            process.join()


class FromTheStart:
    """A validation set that is read from its first sample each time.

    An Energon loader goes on where it was left, also if only some of its batches were wanted.

    Args:
        make: makes a fresh loader.
        length: batches it has. Pipeline stages must know it: a later stage waits for an earlier one before it asks for
            a batch, so it would not find out that there is none.
        finish: see `TimedStream`.
    """

    def __init__(
        self, make: Callable[[], Any], length: int, finish: Callable[[Any], Any] = lambda batch: batch
    ) -> None:
        self.make = make
        self.length = length
        self.finish = finish

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from map(self.finish, self.make())
        finally:
            # At its end a loader thaws all objects, a million after the imports, and the training loader, if it reads
            # in this process, would look at all of them every ten batches: half a second each time.
            gc.collect()
            gc.freeze()


def state_for_rank(states: Sequence[Any], *, rank: int, size: int, num_workers: int) -> Any:
    """The saved loader state that one data-parallel rank continues from.

    The samples of every reader (a worker of a rank) are one sequence. With the same number of readers in all, the
    sequences can be dealt to other ranks; with another number that is impossible without losing or repeating samples.

    Args:
        states: one loader state per data-parallel rank of the saving run, in rank order.
        rank: this data-parallel rank.
        size: data-parallel size now.
        num_workers: workers per rank now.

    Raises:
        UserError: the numbers do not allow it; names the ones that do.
    """
    if any(state is None for state in states):
        raise UserError("the checkpoint holds no data position for some rank; it was saved before training started.")
    readers = [reader for state in states for reader in state.worker_states]
    per_rank = len(states[0].worker_states)
    # Without worker processes a reader keeps its position in another form than with them.
    had_workers = type(readers[0]).__name__ != "FlexState"
    saved_workers = per_rank if had_workers else 0
    if size == len(states) and num_workers == saved_workers:
        return states[rank]
    if not had_workers or num_workers == 0 or len(readers) != size * num_workers:
        hint = f"data.num_workers={saved_workers} and a data-parallel size of {len(states)}"
        if had_workers and len(readers) % size == 0:
            hint = f"data.num_workers={len(readers) // size}"
        raise UserError(
            f"the checkpoint's data position is for {len(states)} data-parallel ranks with data.num_workers="
            f"{saved_workers}, which cannot be dealt to {size} with {num_workers}; use {hint}."
        )
    mine = readers[rank * num_workers : (rank + 1) * num_workers]
    return type(states[0])(worker_states=mine, next_worker_id=0, micro_batch_size=states[0].micro_batch_size)

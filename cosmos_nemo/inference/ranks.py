"""Work that rank 0 does for all ranks of a generation, and its progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cosmos_nemo.errors import UserError
from cosmos_nemo.parallel.process import World

T = TypeVar("T")


def on_rank_zero(world: World, function: Callable[[], T]) -> T:
    """Call on rank 0 and hand its result to all ranks; a UserError there is raised on all of them."""
    if world.size == 1:
        return function()
    outcome: list[object] = [None]
    if world.rank == 0:
        try:
            outcome = [function()]
        except UserError as error:
            outcome = [error]
    torch.distributed.broadcast_object_list(outcome, src=0)
    if isinstance(outcome[0], UserError):
        raise outcome[0]
    return outcome[0]  # type: ignore[return-value]


@contextmanager
def progress_bar(label: str, total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on the terminal, if standard error is one.

    Yields:
        to be called with the number of steps that are done.
    """
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done: bar.update(task, completed=done)

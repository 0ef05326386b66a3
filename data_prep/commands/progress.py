"""Progress bars and the closing table."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from data_prep.making.report import Progress as ShardEvents
from data_prep.making.report import Report

MAX_ROWS = 30  # of the table; report.json has them all


class _RateColumn(ProgressColumn):
    """Recent steps per second."""

    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        return Text("" if rate is None else f"{rate:.3g}/s")


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=Console(stderr=True))


@contextmanager
def bar(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """Show a progress bar; the function that it gives is called once per step, with a note."""
    with _progress() as progress:
        task = progress.add_task(title, total=total, note="")
        yield lambda note: progress.update(task, advance=1, note=note)


class ShardProgress(ShardEvents):
    """Progress bars of `make_shards`, one per stage."""

    def __init__(self) -> None:
        self._progress = _progress()
        self._task: TaskID | None = None

    def __enter__(self) -> "ShardProgress":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def stage(self, name: str, total: int) -> None:
        """Begin a stage of `total` steps."""
        self._task = self._progress.add_task(name, total=total, note="")

    def step(self, note: str) -> None:
        """Advance by one step."""
        if self._task is not None:
            self._progress.update(self._task, advance=1, note=note)

    def problem(self, report: Report) -> None:
        """Show what is wrong with the input."""
        self._progress.stop()
        print_report(report, stderr=True)


def print_report(report: Report, *, stderr: bool = False) -> None:
    """Print the fate of the input: every problem with its reason, and counts that add up."""
    console = Console(stderr=stderr)
    problems = [v for v in report.verdicts if v.reason]
    if problems:
        table = Table("input", "status", "reason")
        for verdict in problems[:MAX_ROWS]:
            table.add_row(verdict.stem, verdict.status, verdict.reason)
        if len(problems) > MAX_ROWS:
            table.add_row("...", "", f"{len(problems) - MAX_ROWS} more in report.json")
        console.print(table)
    console.print(
        f"{len(report.verdicts)} inputs = {report.count('used')} used + {report.count('skipped')} skipped + "
        f"{report.count('unmatched')} unmatched",
        highlight=False,
    )

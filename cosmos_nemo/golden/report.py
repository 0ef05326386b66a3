"""The table of a golden run."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from cosmos_nemo.golden.compare import Comparison


class Status(Enum):
    """Outcome of a case."""

    PASS = "PASS"
    FAIL = "FAIL"
    SKIP = "SKIP"
    """Cannot run at this tensor-parallel size; not a failure."""
    NOT_YET = "NOT YET"
    """A known kind of a model family that this project does not have yet; makes the exit code 1."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Outcome of one case."""

    case: str
    status: Status
    comparisons: list[Comparison] = field(default_factory=list)
    note: str = ""


def merge_ranks(per_rank: Sequence[Result]) -> Result:
    """Return one result for a case that several ranks ran: per quantity the worst rank's, FAIL if any failed."""
    first = per_rank[0]
    comparisons = [
        max((result.comparisons[i] for result in per_rank), key=lambda c: c.excess)
        for i in range(min(len(result.comparisons) for result in per_rank))
    ]
    failure = next((result for result in per_rank if result.status is Status.FAIL), first)
    return Result(case=first.case, status=failure.status, comparisons=comparisons, note=failure.note)


def exit_code(results: Sequence[Result]) -> int:
    """Return 0 if every case passed or was skipped for its size, else 1."""
    return int(any(result.status not in (Status.PASS, Status.SKIP) for result in results))


def table(results: Sequence[Result], *, verbose: bool = False) -> str:
    """Lay the results out, one row per case with its name first.

    Args:
        results: outcomes in the order to show.
        verbose: one row per quantity instead of the case's worst.
    """
    header = ("case", "quantity", "max abs diff", "tolerance", "result", "")
    rows = [header, *(row for result in results for row in _rows(result, verbose=verbose))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]]).rstrip()
        for row in rows
    )


def summary(results: Sequence[Result]) -> str:
    """Count the outcomes, e.g. "13 PASS, 3 SKIP"."""
    counts = Counter(result.status for result in results)
    return ", ".join(f"{counts[status]} {status.value}" for status in Status if counts[status])


def _rows(result: Result, *, verbose: bool) -> list[tuple[str, ...]]:
    if not result.comparisons:
        return [(result.case, "-", "-", "-", result.status.value, result.note)]
    if verbose:
        return [
            _row(result.case, c, c.quantity, Status.PASS if c.passed else Status.FAIL, c.note)
            for c in result.comparisons
        ]
    worst = max(result.comparisons, key=lambda c: c.excess)
    count = len(result.comparisons)
    quantity = worst.quantity + (f" (worst of {count})" if count > 1 else "")
    first = next((c for c in result.comparisons if not c.passed), worst)
    remarks = dict.fromkeys(c.note for c in result.comparisons if c.passed and c.note and c is not worst)
    notes = (worst.note, result.note, "" if first is worst else f"first to deviate: {first.quantity}", *remarks)
    return [_row(result.case, worst, quantity, result.status, "; ".join(filter(None, notes)))]


def _row(case: str, comparison: Comparison, quantity: str, status: Status, note: str) -> tuple[str, ...]:
    return (case, quantity, f"{comparison.max_abs_diff:.1e}", comparison.tolerance, status.value, note)

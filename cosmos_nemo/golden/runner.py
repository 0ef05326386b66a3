"""Run golden cases and prints the table."""

import re
from collections.abc import Sequence
from pathlib import Path

from cosmos_nemo.errors import UserError
from cosmos_nemo.golden import registry, report
from cosmos_nemo.golden.manifest import Case, read_cases
from cosmos_nemo.golden.report import Result, Status
from cosmos_nemo.parallel.process import World, model_parallel_world, process_world
from cosmos_nemo.parallel.sizes import IndivisibleError


def run(paths: Sequence[str | Path], filter: str | None = None, verbose: bool = False) -> int:
    """Check every golden case below the given paths against this project's own code.

    In one process networks run at tensor-parallel size 1; under torchrun they run at the world size, and cases
    whose network cannot be cut so are skipped. Rank 0 prints one row per case, its name first.

    Args:
        paths: golden folders, or parents of some.
        filter: regular expression; only cases whose name it is found in are run.
        verbose: print one row per quantity instead of each case's worst.

    Returns:
        The exit code, equal on all ranks: 0 if all cases passed (or were skipped for their size), 1 otherwise,
        also for a family that is not built yet and for a case of unknown kind.

    Raises:
        UserError: no golden folder, an unreadable manifest, or a filter that matches nothing.
    """
    cases = _select(read_cases(paths), filter)
    join = model_parallel_world if any(_needs_network(case) for case in cases) else process_world
    with join() as world:
        results = []
        for case in cases:
            # A case without a network is the same on every rank: one does it.
            alone = not _needs_network(case)
            mine = _run_case(case, world) if world.rank == 0 or not alone else None
            done = [result for result in world.gather(mine) if result is not None]
            results.append(report.merge_ranks(done))
        if world.rank == 0:
            size = world.sizes.tensor_model_parallel_size
            print(report.table(results, verbose=verbose))
            print(f"{len(results)} cases at TP {size}: {report.summary(results)}")
        return report.exit_code(results)


def _select(cases: list[Case], filter: str | None) -> list[Case]:
    """Return the cases whose name the filter is found in."""
    if filter is None:
        return cases
    try:
        pattern = re.compile(filter)
    except re.error as error:
        raise UserError(f"--filter '{filter}' is not a regular expression ({error}).") from None
    selected = [case for case in cases if pattern.search(case.name)]
    if not selected:
        raise UserError(f"--filter '{filter}' matches none of the {len(cases)} cases; run without it to list them.")
    return selected


def _needs_network(case: Case) -> bool:
    """Whether running the case builds a model: it brings weights, and its family is built."""
    try:
        return "weights" in case.files and registry.find(case) is not None
    except UserError:
        return False


def _run_case(case: Case, world: World) -> Result:
    """Run one case; what is wrong with the case itself is its failure, and does not stop the others."""
    try:
        checker = registry.find(case)
        if checker is None:
            note = f"{case.kind} of family {case.family} is not built yet"
            return Result(case=case.name, status=Status.NOT_YET, note=note)
        comparisons = checker(case, world)
    except IndivisibleError as reason:
        return Result(case=case.name, status=Status.SKIP, note=str(reason))
    except UserError as error:
        return Result(case=case.name, status=Status.FAIL, note=str(error))
    if not comparisons:
        return Result(case=case.name, status=Status.FAIL, note="the case holds nothing to compare")
    passed = all(comparison.passed for comparison in comparisons)
    return Result(case=case.name, status=Status.PASS if passed else Status.FAIL, comparisons=comparisons)

"""The one launch layer: `nemo run recipe NAME ...`, `cosmos-nemo recipe NAME ...`, `torchrun -m recipes NAME ...`.

All three come here with the words after NAME. A run goes one of two ways:
- in this process: one process is enough, or torchrun has started this one as a rank;
- through a NeMo-Run executor, which starts the ranks: several processes are needed, or `run.executor=` was given.
The exit code is the job's; through an executor it is 0, or 1 for any failure.
"""

from __future__ import annotations

import argparse
import logging
import os
import pathlib
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from cosmos_nemo import catalog
from cosmos_nemo.errors import UserError
from recipes import executors

if TYPE_CHECKING:
    import fiddle as fdl

    from cosmos_nemo.lightning.preflight import Division

T = TypeVar("T")
_SECONDS_FOR_RANK_0 = 10.0  # ranks start within this time of each other

_EPILOG = """\
examples:
  cosmos_v2w_tiny data.path=shards trainer.max_steps=20
  cosmos_v2w_2b data.path=shards trainer.strategy.context_parallel_size=4 optim.config.lr=2**-15 --dryrun
  cosmos_v2w_tiny data.path=shards run.executor=local run.executor.ntasks_per_node=2
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def _parser(prog: str) -> _Parser:
    parser = _Parser(
        prog=prog,
        allow_abbrev=False,
        description="Run a recipe. Every value of it can be changed with key=value; --dryrun shows them all.",
        epilog=_EPILOG + "\nrecipes:\n" + "\n".join(f"  {line}" for line in catalog.listing().splitlines()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="a recipe; without it the recipes are listed")
    parser.add_argument("assignments", metavar="key=value", nargs="*", help="data.path=..., trainer.max_steps=..., ...")
    parser.add_argument("--dryrun", action="store_true", help="check and print everything, start nothing")
    parser.add_argument("--yaml", metavar="FILE", help="set fields from a YAML file; key=value wins over it")
    parser.add_argument("--to-yaml", metavar="FILE", help="write the resolved recipe as YAML ('-' prints it) and stop")
    parser.add_argument("-y", "--yes", action="store_true", help="accepted for NeMo-Run's sake; nothing is ever asked")
    parser.add_argument("-v", "--verbose", action="store_true", help="show the traceback of an error")
    return parser


def main(argv: Sequence[str] | None = None, *, prog: str = "recipes") -> int:
    """Run the command line `NAME key=value ... [options]` and return the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        arguments = _parser(prog).parse_intermixed_args(argv)
        if arguments.name is None:
            print(catalog.listing())
            return 0
        return _launch(arguments)
    except UserError as error:
        return _report(error, verbose="-v" in argv or "--verbose" in argv)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


def _launch(arguments: argparse.Namespace) -> int:
    executor_words = [word for word in arguments.assignments if word.startswith("run.")]
    overrides = [word for word in arguments.assignments if not word.startswith("run.")]
    executor = _executor(executor_words)
    task, given = resolve(arguments.name, overrides, yaml_file=arguments.yaml)
    _set_world(task, given, executor)

    from recipes.launch import checks

    checks.settings(task)
    division = checks.division(task)
    checks.model(task, division.sizes)
    learning_rate = checks.schedule(task)
    if arguments.to_yaml:
        return _export(arguments.name, task, arguments.to_yaml)
    in_process = executors.world_from_launcher() is not None or (division.processes == 1 and executor is None)
    if executor is None and not in_process:
        executor = _local(task, division.processes)
    if arguments.dryrun:
        runs = "in this process" if in_process else executors.describe(executor)
        return _dry_run(arguments.name, task, division, learning_rate, runs)
    checks.inputs(task)
    checks.devices(task)
    if in_process:
        return _run_here(task)
    words = [arguments.name, *overrides, *(["--yaml", arguments.yaml] if arguments.yaml else [])]
    return submit(arguments.name, words, executor)


def resolve(
    name: str, overrides: Sequence[str] = (), *, yaml_file: str | None = None
) -> tuple[fdl.Buildable, set[str]]:
    """Build recipe `name` and change it: first the YAML file, then each `key=value`.

    Returns: the `run.Partial`, and the keys that `overrides` set.

    Raises:
        UserError: no such recipe, key or file, or a value of another type.
    """
    catalog.lookup(name)
    task = _quietly(lambda: catalog.load(name)())
    from recipes.launch import overrides as fields

    if yaml_file:
        fields.load_yaml(task, yaml_file)
    given = {fields.apply(task, assignment) for assignment in overrides}
    if "trainer.max_epochs" in given and "trainer.max_steps" not in given:
        task.trainer.max_steps = -1  # the number of steps was the recipe's idea, that of passes is the user's
    return task, given


def _quietly(build: Callable[[], T]) -> T:
    """Call `build` without the remarks of the training stack about optional packages and absent devices."""
    # Processes that are started later import the same stack.
    os.environ.setdefault("PYTHONWARNINGS", "ignore::FutureWarning,ignore::DeprecationWarning")
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return build()
    finally:
        logging.disable(logging.NOTSET)


def _executor(words: Sequence[str]) -> Any:
    """`run.executor=local run.executor.ntasks_per_node=2` -> a `run.Config` of the executor, or None."""
    settings = [word.removeprefix("run.executor.") for word in words if word.startswith("run.executor.")]
    chosen = [word.removeprefix("run.executor=") for word in words if word.startswith("run.executor=")]
    unknown = [word for word in words if not word.startswith(("run.executor.", "run.executor="))]
    legal = ", ".join(executors.EXECUTORS)
    if unknown:
        raise UserError(f"no field '{unknown[0].partition('=')[0]}'; run has executor, which may be {legal}")
    if not chosen:
        if settings:
            raise UserError(f"run.executor.{settings[0]} needs run.executor=NAME as well; executors are {legal}")
        return None
    if chosen[-1] not in executors.EXECUTORS:
        raise UserError(f"run.executor={chosen[-1]}: executors are {legal}")
    if executors.world_from_launcher() is not None:
        raise UserError("run.executor= makes no sense under torchrun, which has started the processes already")
    config = _quietly(executors.EXECUTORS[chosen[-1]])
    from recipes.launch import overrides as fields

    for setting in settings:
        try:
            fields.apply(config, setting)
        except UserError as error:
            raise UserError(f"run.executor: {error}") from None
    return config


def _set_world(task: fdl.Buildable, given: set[str], executor: Any) -> None:
    """Make `trainer.devices` and `trainer.num_nodes` agree with whoever starts the processes."""
    started, source = executors.world_from_launcher(), "torchrun"
    if started is None and executor is not None:
        if executor.ntasks_per_node is None:
            executor.ntasks_per_node = executors.device_count(task.trainer.devices)
        started, source = (executor.ntasks_per_node, executor.nodes), "run.executor"
    if started is None:
        return
    for name, value in zip(("devices", "num_nodes"), started, strict=True):
        wanted = getattr(task.trainer, name)
        if f"trainer.{name}" in given and wanted not in (value, str(value), "auto"):
            raise UserError(f"trainer.{name}={wanted}, but {source} starts {value}; leave trainer.{name} away")
        setattr(task.trainer, name, value)


def _local(task: fdl.Buildable, processes: int) -> Any:
    """The executor of a recipe that needs several processes when nobody has said who starts them."""
    if task.trainer.num_nodes > 1:
        raise UserError(
            f"trainer.num_nodes={task.trainer.num_nodes}: start torchrun --nnodes {task.trainer.num_nodes} "
            "-m recipes NAME ... on every node"
        )
    return executors.local(processes)


def _export(name: str, task: fdl.Buildable, target: str) -> int:
    from recipes.launch import overrides as fields

    text = f"# nemo run recipe {name} --yaml {target}\n{fields.dump_yaml(task)}"
    if target == "-":
        print(text, end="")
        return 0
    try:
        pathlib.Path(target).write_text(text)
    except OSError as error:
        raise UserError(f"--to-yaml {target}: {error.strerror}") from None
    print(f"wrote {target}")
    return 0


def _dry_run(name: str, task: fdl.Buildable, division: Division, learning_rate: str, runs: str) -> int:
    from recipes.launch import checks
    from recipes.launch import overrides as fields

    print(f"recipe       {name}")
    print(f"runs         {runs}")
    print(f"processes    {division.words()}")
    print(f"global batch {division.batch_words(task.data)}")
    print(f"lr           {learning_rate}\n\n{fields.dump_yaml(task)}", end="")
    for check in (checks.inputs, checks.devices):
        try:
            check(task)
        except UserError as error:  # the run may be meant for another machine
            print(f"\nwould not start here: {error}")
    return 0


def _run_here(task: fdl.Buildable) -> int:
    import fiddle as fdl

    try:
        _quietly(lambda: fdl.build(task))()
    except UserError as error:
        return _report(error, in_job=True)
    return 0


def run_rank(argv: list[str]) -> None:
    """What an executor runs in every process: the same as `torchrun -m recipes NAME key=value ...`."""
    sys.exit(main(argv))


def submit(name: str, argv: list[str], executor: Any) -> int:
    """Run the words `argv` in every process of an executor, wait, and return the exit code.

    NeMo-Run itself ends with success when the job of its local executor failed; the state of the job tells.
    """
    import fiddle as fdl
    import nemo_run as run

    stopped_by: list[int] = []
    job = run.Partial(run_rank, argv=argv)
    with run.Experiment(
        name, executor=fdl.build(executor), log_level="WARN", skip_status_at_exit=True, enable_goodbye_message=False
    ) as experiment:
        job_id = experiment.add(job, name=name, tail_logs=True)

        def stop(signal_number: int, _frame: object) -> None:
            stopped_by.append(signal_number)
            experiment.cancel(job_id)  # ends the process group of this job, nothing else

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)  # for the rest of this process, which only waits
        experiment.run(detach=False)
    if stopped_by:
        return 128 + stopped_by[0]
    state = experiment.jobs[0].state
    if state.name != "SUCCEEDED":
        print(f"error: {name} {state.name}; its log is in {experiment.jobs[0].executor.job_dir}", file=sys.stderr)
        return 1
    return 0


def _report(error: UserError, *, verbose: bool = False, in_job: bool = False) -> int:
    # Fiddle appends the arguments of the constructor that raised.
    message = str(error).partition("\n\nFiddle context")[0]
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if verbose:
        traceback.print_exception(error)
    # Inside the job one rank may be the only one to know. Before it starts every rank finds the same error, and
    # rank 0 says it; torchrun ends all ranks with the first one, so the others wait until it has.
    if in_job or rank == 0:
        where = f"[rank {rank}] " if in_job and world > 1 else ""
        print(f"error: {where}{message}", file=sys.stderr, flush=True)
    else:
        time.sleep(_SECONDS_FOR_RANK_0)
    return 1

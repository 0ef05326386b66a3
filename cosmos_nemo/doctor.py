"""`cosmos-nemo doctor`: is everything there that training and generating need?"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import platform
import sys
import warnings
from collections.abc import Iterator

PACKAGE = "cosmos-nemo"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the report.

    Attributes:
        name: what was looked at.
        found: what was found.
        problem: what is wrong and what to do; empty if nothing.
    """

    name: str
    found: str
    problem: str = ""


def run(*, device: bool = True) -> int:
    """Print the report and return the exit code: 1 if a row has a problem."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages about each other, while they are imported
        rows = [*system(), *pins(), *codecs()]
        if device:
            rows += [*devices(), *assumptions()]
    width = max(len(row.name) for row in rows)
    for row in rows:
        print(f"{'PROBLEM' if row.problem else 'ok':<8}{row.name:<{width}}  {row.found}")
        if row.problem:
            print(f"{'':<8}{'':<{width}}  {row.problem}")
    problems = sum(bool(row.problem) for row in rows)
    print(f"{len(rows)} checks, {problems} problem{'s' * (problems != 1)}")
    return 1 if problems else 0


def system() -> Iterator[Row]:
    """Python and this package."""
    yield Row(name="python", found=f"{platform.python_version()} ({sys.executable})")
    try:
        yield Row(name=PACKAGE, found=importlib.metadata.version(PACKAGE))
    except importlib.metadata.PackageNotFoundError:
        yield Row(name=PACKAGE, found="not installed", problem="run pip install -e . in the repository")


def pins() -> Iterator[Row]:
    """Every dependency of pyproject.toml: installed, and in a version that it allows."""
    from packaging.requirements import Requirement

    try:
        requirements = importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield Row(name=requirement.name, found="missing", problem=f"pip install '{text}'")
            continue
        fits = requirement.specifier.contains(found, prereleases=True)
        yield Row(name=requirement.name, found=found, problem="" if fits else f"needs {requirement.specifier}")


def codecs() -> Iterator[Row]:
    """H.264 in PyAV, which reads and writes every video here."""
    import av

    for mode, what in (("r", "decode"), ("w", "encode")):
        try:
            av.codec.Codec("h264" if mode == "r" else "libx264", mode)
            yield Row(name=f"H.264 {what}", found=f"PyAV {av.__version__}")
        except ValueError:  # PyAV's error for an unknown codec is a ValueError
            yield Row(
                name=f"H.264 {what}",
                found="missing",
                problem="reinstall av from its wheel: pip install --force-reinstall av",
            )


def devices() -> Iterator[Row]:
    """GPUs and what training uses on them."""
    import torch

    if not torch.cuda.is_available():
        yield Row(name="device", found="CPU (no CUDA device): the tiny recipes run, the published sizes do not")
        return
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        bf16 = "" if torch.cuda.is_bf16_supported() else "no bf16: the published sizes need it"
        found = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        yield Row(name=f"cuda:{index}", found=found, problem=bf16)
    for name in ("transformer_engine", "apex"):
        there = importlib.util.find_spec(name) is not None
        yield Row(name=name, found="installed" if there else "not installed (optional)")


def assumptions() -> Iterator[Row]:
    """What Megatron-core and NeMo assume and this machine does not give."""
    from cosmos_nemo.platform import table

    rows = table.assumptions()
    yield Row(
        name="platform", found=f"{len(rows)} assumptions of Megatron-core and NeMo are lifted where there is no CUDA"
    )


def print_assumptions() -> None:
    """Print the platform table: where each assumption is made, what it is, and what holds instead."""
    from cosmos_nemo.platform import table

    for row in table.assumptions():
        print(f"{row.where}\n    assumes  {row.assumes}\n    here     {row.here}")

"""Seconds until the commands answer, and until a training run has done its first step. Prints JSON.

    python -m benchmarks.startup [--repeats 5] [--output benchmarks/results/startup.json]

Wall time is what a user waits; CPU time is what can be compared on a busy machine. The peer is NeMo-Run's own command
`nemo run recipe`, which loads the entry points of every installed package.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import pathlib
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

BIN = pathlib.Path(sys.executable).parent
COMMANDS = {
    "nemo run recipe": [str(BIN / "nemo"), "run", "recipe"],
    "cosmos-nemo recipes": [str(BIN / "cosmos-nemo"), "recipes"],
    "cosmos-nemo --help": [str(BIN / "cosmos-nemo"), "--help"],
}
TARGETS = {"cosmos-nemo recipes": 2.0, "cosmos-nemo --help": 1.0}
IMPORT_LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+([\w.]+)")


def measure(command: list[str]) -> tuple[float, float]:
    """Run a command to its end.

    Returns: seconds of wall time and of CPU time.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def commands(repeats: int) -> dict[str, dict[str, object]]:
    """Median seconds of every command, after one run that warms the file cache."""
    rows: dict[str, dict[str, object]] = {}
    for name, command in COMMANDS.items():
        measure(command)
        runs = [measure(command) for _ in range(repeats)]
        rows[name] = {
            "wall_seconds": round(statistics.median(wall for wall, _ in runs), 3),
            "cpu_seconds": round(statistics.median(cpu for _, cpu in runs), 3),
            "wall_seconds_of_runs": [round(wall, 3) for wall, _ in runs],
        }
        if name in TARGETS:
            rows[name]["target_wall_seconds"] = TARGETS[name]
    peer = rows["nemo run recipe"]["wall_seconds"]
    for row in rows.values():
        row["ratio_to_nemo_run"] = round(row["wall_seconds"] / peer, 4)
    return rows


def training(folder: pathlib.Path, data: pathlib.Path) -> dict[str, object]:
    """Seconds from the start of the process to the first step of the tiny recipe, and what was imported on the way."""
    words = ["cosmos_v2w_tiny", f"data.path={data}", f"log.output_root={folder}", "trainer.max_steps=1"]
    begin = time.perf_counter()
    seconds = {}
    with subprocess.Popen(
        [sys.executable, "-m", "recipes", *words, "log.name=timed"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            for mark, name in (("run ", "to_the_plan"), ("step 1/", "to_the_first_step")):
                if line.startswith(mark):
                    seconds.setdefault(name, round(time.perf_counter() - begin, 2))
    seconds["to_the_end"] = round(time.perf_counter() - begin, 2)
    if process.returncode or "to_the_first_step" not in seconds:
        raise SystemExit("error: the training run failed:\n" + "".join(lines))
    return {"wall_seconds": seconds, "import_seconds_by_package": imports([*words, "log.name=imports"])}


def imports(words: list[str]) -> dict[str, float]:
    """Seconds spent in the modules of each package themselves, largest first, with the interpreter's own clock."""
    command = [sys.executable, "-X", "importtime", "-m", "recipes", *words]
    log = subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True).stderr
    total: collections.Counter[str] = collections.Counter()
    for microseconds, module in IMPORT_LINE.findall(log):
        total[module.partition(".")[0]] += int(microseconds)
    rows = {package: round(microseconds / 1e6, 2) for package, microseconds in total.most_common(12)}
    return {"total": round(sum(total.values()) / 1e6, 2), **rows}


def main() -> None:
    """Measure, print JSON, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data", type=pathlib.Path, help="shards to train on; random ones if left out")
    parser.add_argument("--output", type=pathlib.Path, help="also write the JSON here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        result = {
            "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
            "load_average_before": os.getloadavg()[0],
            "date": time.strftime("%Y-%m-%d"),
            "commands": commands(arguments.repeats),
            "training_start": training(folder, arguments.data or random_shards(folder / "shards")),
        }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text + "\n")


def random_shards(folder: pathlib.Path) -> pathlib.Path:
    """A few samples of random latents, made in a process of their own: this one must not import torch."""
    program = f"import pathlib; from tests.lightning import shards; shards.write_shards(pathlib.Path({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    return folder


if __name__ == "__main__":
    main()

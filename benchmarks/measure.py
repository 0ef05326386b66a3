"""How the benchmarks measure: interleaved pairs, medians of ratios, peaks of memory."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

Action = Callable[[], object]


def seconds_of(action: Action) -> float:
    """Run once. CUDA: elapsed seconds. CPU: CPU seconds of this process, which other load disturbs least."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        start = time.perf_counter()
        action()
        torch.cuda.synchronize()
        return time.perf_counter() - start
    start = time.process_time()
    action()
    return time.process_time() - start


def time_pairs(ours: Action, peer: Action, pairs: int) -> dict[str, Any]:
    """Time two actions in turns (A B, B A, ...) after one warm-up each.

    Returns: medians in seconds, and the median of the pairs' ratios, so that a load that comes and goes hits both.
    """
    actions = {"ours": ours, "peer": peer}
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    for action in actions.values():
        action()
    for pair in range(pairs):
        for name in ("ours", "peer") if pair % 2 == 0 else ("peer", "ours"):
            seconds[name].append(seconds_of(actions[name]))
    ratios = [a / b for a, b in zip(seconds["ours"], seconds["peer"], strict=True)]
    return {
        "seconds_ours": round(statistics.median(seconds["ours"]), 4),
        "seconds_peer": round(statistics.median(seconds["peer"]), 4),
        "ratio_ours_to_peer": round(statistics.median(ratios), 4),
        "ratios": [round(ratio, 4) for ratio in ratios],
    }


def peak_of(action: Action) -> int:
    """Bytes by which an action rises above what is there before it."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        action()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, the peak of resident memory (Linux)
    before = status_bytes("VmRSS")
    action()
    return status_bytes("VmHWM") - before


def status_bytes(field: str) -> int:
    """A line of /proc/self/status, such as VmRSS or VmHWM, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def peak_in_own_process(script: str, arguments: Sequence[str]) -> int:
    """Run a script that prints a number of bytes last, in a process that holds nothing else."""
    # A fixed threshold makes the allocator give large blocks back at once, so the peak is that of live tensors.
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, script, *arguments]
    return int(subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1])


def device_name() -> str:
    """The GPU, or the CPU."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return models[0].split(":")[1].strip() if models else platform.processor()


def header(benchmark: str, packages: Sequence[str]) -> dict[str, Any]:
    """What every result begins with."""
    return {
        "benchmark": benchmark,
        "device": device_name(),
        "threads": torch.get_num_threads(),
        "clock": "elapsed seconds" if torch.cuda.is_available() else "CPU seconds of the process",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "versions": {name: version(name) for name in packages},
        "command": " ".join(["python", f"benchmarks/{benchmark}.py", *sys.argv[1:]]),
    }

"""Runs one function on several gloo ranks, each in its own process."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPO_ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    """A TCP port that nobody listens on at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def run_ranks(function: str, world_size: int, *args: Any, timeout: float = 600.0) -> list[Any]:
    """Runs ``module:function`` on every rank and returns what each rank returned, in rank order.

    Args:
        function: ``tests.some.module:function``; called as ``function(*args)`` with RANK, WORLD_SIZE,
            LOCAL_RANK, MASTER_ADDR and MASTER_PORT set, so it can create its own process group.
        world_size: number of processes.
        *args: picklable arguments.
        timeout: seconds after which all ranks are killed.

    Raises:
        RuntimeError: with the output of the first failing rank.
    """
    with tempfile.TemporaryDirectory() as folder:
        arguments = Path(folder) / "args.pkl"
        arguments.write_bytes(pickle.dumps(args))
        port = str(free_port())
        workers = []
        for rank in range(world_size):
            env = os.environ | {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(world_size),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": f"{REPO_ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
            }
            log = (Path(folder) / f"rank{rank}.log").open("w+")
            command = [sys.executable, "-m", "tests.rank_worker", function, str(arguments), f"{folder}/out{rank}.pkl"]
            process = subprocess.Popen(command, env=env, cwd=REPO_ROOT, stdout=log, stderr=subprocess.STDOUT)
            workers.append((process, log))
        deadline = time.monotonic() + timeout
        try:
            # A rank that died leaves the others waiting in a collective: stop at the first failure.
            while any(p.poll() is None for p, _ in workers) and not any(p.poll() for p, _ in workers):
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{function} did not end within {timeout} seconds on {world_size} ranks")
                time.sleep(0.05)
        finally:
            for process, _ in workers:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        failures = []
        for rank, (process, log) in enumerate(workers):
            log.seek(0)
            if process.returncode:
                failures.append((process.returncode, rank, log.read()))
            log.close()
        if failures:
            # Ranks killed by us end with a negative code; the one to blame has a positive one.
            code, rank, output = max(failures)
            raise RuntimeError(f"rank {rank} of {function} ended with {code}:\n{output[-6000:]}")
        return [pickle.loads((Path(folder) / f"out{rank}.pkl").read_bytes()) for rank in range(world_size)]

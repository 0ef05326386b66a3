"""Keeps the console for what a user has to read; everything else goes to a log file of the run."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

_OURS = ("cosmos_nemo", "recipes")


def log_to_file(run_dir: Path, rank: int) -> None:
    """Sends library logs and Python warnings to ``logs/rank{rank}.log``; our own warnings also to standard error.

    Args:
        run_dir: the run folder.
        rank: global rank of this process.
    """
    folder = run_dir / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    to_file = logging.FileHandler(folder / f"rank{rank}.log", delay=True)
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers = [to_file]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    warnings.simplefilter("default")
    warnings.simplefilter("ignore", ResourceWarning)  # printed by the interpreter while it shuts down
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] not in _OURS:
            logger = logging.getLogger(name)
            logger.handlers = []
            logger.propagate = True
    if rank == 0:
        _to_console()


def _to_console() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("warning: %(message)s"))
    for name in _OURS:
        logging.getLogger(name).handlers = [handler]

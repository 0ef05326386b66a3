"""One rank of `tests.distributed.run_ranks`: calls a function and pickles what it returns."""

from __future__ import annotations

import importlib
import pickle
import sys
from pathlib import Path

import torch


def main() -> None:
    """Calls ``module:function`` with the pickled arguments."""
    target, arguments, result = sys.argv[1:4]
    module, _, name = target.partition(":")
    value = getattr(importlib.import_module(module), name)(*pickle.loads(Path(arguments).read_bytes()))
    Path(result).write_bytes(pickle.dumps(value))
    _leave_together()


def _leave_together() -> None:
    """Takes the process group down on all ranks at once.

    A rank that just ends is torn down while gloo's threads still run, which now and then ends in std::terminate.
    """
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()

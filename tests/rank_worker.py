"""One rank of `tests.distributed.run_ranks`: calls a function and pickles what it returns."""

from __future__ import annotations

import importlib
import pickle
import sys
from pathlib import Path


def main() -> None:
    """Calls ``module:function`` with the pickled arguments."""
    target, arguments, result = sys.argv[1:4]
    module, _, name = target.partition(":")
    value = getattr(importlib.import_module(module), name)(*pickle.loads(Path(arguments).read_bytes()))
    Path(result).write_bytes(pickle.dumps(value))


if __name__ == "__main__":
    main()

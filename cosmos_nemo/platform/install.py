"""Walks the table: puts the stand-ins where Megatron-core and NeMo look for CUDA."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.platform import stand_in, table, upstream_gaps

_REPLACEMENTS = {
    "_get_cuda_rng_state": stand_in.get_rng_state,
    "_set_cuda_rng_state": stand_in.set_rng_state,
    "_fix_tensors_device": lambda checkpoint: checkpoint,
}

_installed: set[str] = set()


def install(nemo: bool = False) -> None:
    """Makes Megatron-core (and NeMo) usable on this machine. May be called again at any time.

    With CUDA only the gaps of `upstream_gaps` are closed. Without CUDA the rows of the table are applied: the
    modules named there see a stand-in for `torch.cuda`; `torch` itself stays as it is for everybody else.

    Args:
        nemo: also prepare NeMo Lightning (imports it, which takes several seconds).

    Raises:
        UserError: Megatron-core or NeMo is missing, or has a version that the table was not made for.
    """
    _check_version("megatron.core", "megatron-core", table.KNOWN_MEGATRON)
    if nemo:
        _check_version("nemo", "nemo_toolkit", table.KNOWN_NEMO)
    if not torch.cuda.is_available():
        for row in table.CPU_ONLY:
            if row.where not in _installed and (nemo or not row.nemo):
                _apply(row)
                _installed.add(row.where)
    upstream_gaps.close(nemo=nemo)


def _check_version(module: str, package: str, known: tuple[str, ...]) -> None:
    try:
        found = importlib.import_module(module).__version__
    except ImportError as error:
        raise UserError(f"{package} cannot be imported ({error}); install {package}=={known[-1]}.") from None
    if found not in known:
        raise UserError(
            f"{package} {found} is not known to this project, which needs {' or '.join(known)}; "
            f"run pip install {package}=={known[-1]}."
        )


def _apply(row: table.Assumption) -> None:
    name, _, path = row.where.partition(":")
    module = importlib.import_module(name)
    if row.kind == "namespace":
        # setattr on the module, not on torch: this is the only place where the name is seen.
        module.__dict__["torch"] = stand_in.make_namespace()
        return
    owner: Any = module
    *owners, attribute = path.split(".")
    for part in owners:
        owner = getattr(owner, part)
    original = getattr(owner, attribute)
    replacement = stand_in.with_cuda_methods(original) if row.kind == "methods" else _REPLACEMENTS[attribute]
    setattr(owner, attribute, replacement)
    if owner is module:
        _rebind(original, replacement)


def _rebind(original: Any, replacement: Any) -> None:
    """Other modules of the library may have imported the function by name."""
    for name, module in list(sys.modules.items()):
        if name.startswith(("megatron.core", "nemo.lightning")) and module is not None:
            for attribute, value in list(vars(module).items()):
                if value is original:
                    setattr(module, attribute, replacement)

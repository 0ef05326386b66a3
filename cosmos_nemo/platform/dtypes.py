"""Names of number formats, and the one that a device computes in unless told otherwise."""

from __future__ import annotations

import torch

from cosmos_nemo.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Names of the dtypes that weights may be cast to."""

_SHORT = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def parse_dtype(name: str | torch.dtype | None) -> torch.dtype | None:
    """Return the dtype with this name; None stays None.

    Raises:
        UserError: the name is unknown; the message lists the legal ones.
    """
    if name is None or isinstance(name, torch.dtype):
        return name
    dtype = DTYPES.get(_SHORT.get(name, name))
    if dtype is None:
        raise UserError(f"--dtype {name} is unknown; use one of {', '.join(DTYPES)} (or {', '.join(_SHORT)}).")
    return dtype


def compute_dtype(device: torch.device | str, name: str | torch.dtype | None = None) -> torch.dtype:
    """Return the dtype for weights and arithmetic on a device.

    Args:
        device: where the network is.
        name: the user's choice. None is bfloat16 on a GPU and float32 on a CPU, where bfloat16 is slow.

    Raises:
        UserError: the name is unknown.
    """
    default = torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32
    return parse_dtype(name) or default

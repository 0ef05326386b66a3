"""What the multi-process test of generation runs on each rank."""

from __future__ import annotations

from typing import Any

import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.inference.generate import generate


def generate_twice(tensor_options: dict[str, Any], context_options: dict[str, Any], broken: dict[str, Any]) -> Any:
    """Generate with tensor parallelism, then with context parallelism, then with an input that rank 0 refuses."""
    torch.distributed.init_process_group("gloo")  # once: the same port cannot be opened again in these processes
    written = [len(generate(**options).paths) for options in (tensor_options, context_options)]
    try:
        generate(**broken)
    except UserError as error:
        return written, str(error)
    return written, "no error"


def generate_tokens(options: dict[str, Any]) -> Any:
    """Generate with an autoregressive network; the number of files, and the tokens (on rank 0)."""
    from cosmos_nemo.inference import autoregressive

    tokens: list[torch.Tensor] = []
    original = autoregressive.Studio.write

    def keeping(studio: Any, jobs: Any, options: Any, own: Any) -> Any:
        tokens.extend(own)
        return original(studio, jobs, options, own)

    autoregressive.Studio.write = keeping  # type: ignore[method-assign]
    return len(generate(**options, progress=False).paths), tokens

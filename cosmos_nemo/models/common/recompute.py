"""Activations that are computed again in backward instead of being kept."""

from __future__ import annotations

from collections.abc import Callable

from megatron.core.tensor_parallel.random import CheckpointWithoutOutput, checkpoint
from torch import Tensor


def recomputed(function: Callable[..., Tensor], x: Tensor, *args: Tensor) -> Tensor:
    """Runs ``function(x, *args)`` keeping only its inputs.

    Megatron's checkpoint gives no gradient at all to the parameters inside if no tensor input requires one, so
    ``x`` is made to require it (with frozen embeddings, as under LoRA, it would not).
    """
    if not x.requires_grad:
        x = x.detach().requires_grad_()
    return checkpoint(function, False, x, *args)


class CheapInput:
    """An input of a costly layer that is cheap to make: freed after use and made again in backward.

    Usage::

        cheap = CheapInput(enabled)
        h = cheap.make(function, *inputs)
        y = costly_layer(h)
        cheap.free(until_gradient_of=y)
    """

    def __init__(self, enabled: bool) -> None:
        # Megatron takes anything but None as a wish for fp8, which needs Transformer Engine.
        self._checkpoint = CheckpointWithoutOutput(fp8=None) if enabled else None

    def make(self, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """Returns ``function(*inputs)``."""
        if not any(x.requires_grad for x in inputs):
            self._checkpoint = None  # Megatron saves nothing then, and would have nothing to recompute from
        return function(*inputs) if self._checkpoint is None else self._checkpoint.checkpoint(function, *inputs)

    def free(self, *, until_gradient_of: Tensor) -> None:
        """Frees what `make` returned until the gradient of a tensor computed from it arrives."""
        if self._checkpoint is not None:
            self._checkpoint.discard_output_and_register_recompute(until_gradient_of)

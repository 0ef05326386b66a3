"""Activations that are computed again in backward instead of being kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from megatron.core.tensor_parallel.random import CheckpointWithoutOutput, checkpoint
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor

Layer = Callable[..., Tensor]
"""Takes the residual stream and other inputs, returns the residual stream."""


def settle_recompute(config: TransformerConfig) -> None:
    """Fill in how layers are recomputed. Method and number of layers belong to "full" alone, as Megatron insists."""
    if config.recompute_granularity == "full":
        config.recompute_method = config.recompute_method or "uniform"
        config.recompute_num_layers = config.recompute_num_layers or 1
    elif config.recompute_granularity == "selective":
        # A recipe may have set them for "full"; changing one word of it has to be enough.
        config.recompute_method = config.recompute_num_layers = None


def run_layers(layers: Sequence[Layer], owner: MegatronModule, x: Tensor, *inputs: Tensor) -> Tensor:
    """Runs layers one after another; in training with ``recompute_granularity="full"`` keeping only some inputs.

    Args:
        layers: called as ``layer(x, *inputs)``.
        owner: the network, for its config and its mode.
        x: residual stream.
        *inputs: tensors that every layer takes, with or without gradient.
    """
    config = owner.config
    if config.recompute_granularity != "full" or not owner.training or not torch.is_grad_enabled():
        return _run(layers, x, *inputs)
    count = config.recompute_num_layers
    # "block": the first `count` layers one by one, the others kept; "uniform": all layers, `count` at a time.
    if config.recompute_method == "block":
        for layer in layers[:count]:
            x = recomputed(layer, x, *inputs)
        return _run(layers[count:], x, *inputs)
    for first in range(0, len(layers), count):
        x = recomputed(partial(_run, layers[first : first + count]), x, *inputs)
    return x


def _run(layers: Sequence[Layer], x: Tensor, *inputs: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x, *inputs)
    return x


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


def recompute_cheap_parts(module: MegatronModule) -> bool:
    """Whether ``recompute_granularity="selective"`` applies.

    Outputs of matrix products and of attention are kept; norms and activation functions are made again in backward.
    Together they are a quarter of a block's activations or more and cost no matrix product.
    """
    return module.config.recompute_granularity == "selective" and module.training and torch.is_grad_enabled()

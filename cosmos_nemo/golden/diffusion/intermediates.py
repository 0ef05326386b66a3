"""Record the activations of a DiT under the names of the reference's."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cosmos_nemo.golden.manifest import Tensors

_MODULES = (
    (re.compile(r"mid\.x_embedder"), "patch_embed"),
    (re.compile(r"mid\.(?:t_embedder\.0|timestep_sinusoid)"), "time_embed.linear_1:input"),
    (re.compile(r"mid\.t_embedder\.1"), "time_embed"),
    (re.compile(r"mid\.t_embedding_norm"), "time_embed.norm"),
    (re.compile(r"mid\.block(\d+)"), r"blocks.\1"),
    (re.compile(r"mid\.block(\d+)\.(self_attn|cross_attn|mlp)"), r"blocks.\1.\2"),
    (re.compile(r"mid\.final_layer"), "final"),
)
"""Names of golden intermediates -> the module of ours whose output (or input) it is."""


@contextmanager
def intermediates(model: nn.Module, io: Tensors) -> Iterator[dict[str, Tensor]]:
    """Record, while the context lasts, the activations for which the file has a golden `mid.*` value.

    Ours are [tokens or frames, B, width], golden ones [B, ..., width]. They come in the order of their computation,
    so the first that deviates tells where a port went wrong.
    """
    seen: dict[str, Tensor] = {}
    modules = dict(model.named_modules())
    handles = []
    for name, expected in io.items():
        path, _, side = _module_path(name).partition(":")
        if path not in modules:
            continue

        def record(
            module: nn.Module,
            inputs: tuple[Any, ...],
            output: Any,
            *,
            name: str = name,
            side: str = side,
            shape: torch.Size = expected.shape,
        ) -> None:
            value = inputs[0] if side == "input" else output
            value = value[0] if isinstance(value, tuple) else value
            seen[name] = value.transpose(0, 1).reshape(shape)

        handles.append(modules[path].register_forward_hook(record))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _module_path(name: str) -> str:
    """Return the path of the module that makes a golden intermediate, or a path that no module has."""
    for pattern, path in _MODULES:
        if match := pattern.fullmatch(name):
            return match.expand(path)
    return "?"

"""Fresh weights of the autoregressive transformer."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from cosmos_nemo.models.common.sharded import ShardedModule, partition_dim
from cosmos_nemo.numerics.keyed import generator
from cosmos_nemo.parallel.collectives import group_rank, group_size

_LAYER = re.compile(r"decoder\.layers\.(\d+)\.")


@torch.no_grad()
def initialize(network: ShardedModule) -> None:
    """Gives every matrix its fresh value; vectors (norm weights) keep theirs.

    Embeddings are N(0, 1); queries, keys, values and W1 are truncated normals of std 0.02; what writes to the residual
    stream or gates it (W2, W3, output projections) has std 0.02 / sqrt(2 (layer + 1)); the output layer D^-0.5, cut at
    3 std. Each matrix is drawn whole from a generator keyed by its name and then cut, so the network is the same at any
    tensor- and pipeline-parallel size.

    Source: Cosmos-Predict1 `init_weights` of its layers.
    """
    config, tp, seed = network.config, network.groups.tp, network.config.init_seed or 0
    for name, parameter in network.named_parameters():
        if parameter.ndim < 2 or parameter.is_meta:
            continue
        layer = _LAYER.match(name)
        deep = 0.02 / (2 * (int(layer[1]) + 1)) ** 0.5 if layer else 0.0
        if name == "embedding.word_embeddings.weight":
            full = torch.randn(config.input_vocab_size, config.hidden_size, generator=generator(seed, name))
        elif name == "output_layer.weight":
            full = _truncated(config.vocab_size, parameter.shape[1], parameter.shape[1] ** -0.5, seed, name)
        elif name.endswith("linear_fc1.weight"):
            rows = parameter.shape[0] // 2 * group_size(tp)
            halves = [
                _truncated(rows, parameter.shape[1], std, seed, f"{name}.{half}")
                for half, std in ((1, 0.02), (3, deep))
            ]
            parameter.copy_(torch.cat([half.chunk(group_size(tp))[group_rank(tp)] for half in halves]))
            continue
        else:
            shape, dim = list(parameter.shape), _cut_dim(parameter)
            shape[dim] *= group_size(tp)
            inner = name.endswith(("linear_proj.weight", "linear_fc2.weight"))
            full = _truncated(shape[0], shape[1], deep if inner else 0.02, seed, name)
        _cut(parameter, full, group_rank(tp), group_size(tp))


def _truncated(rows: int, columns: int, std: float, seed: int, key: str) -> Tensor:
    return nn.init.trunc_normal_(
        torch.empty(rows, columns), std=std, a=-3 * std, b=3 * std, generator=generator(seed, key)
    )


def _cut(parameter: nn.Parameter, full: Tensor, rank: int, size: int) -> None:
    """Copies this rank's slice; rows that only make a vocabulary divide are zero."""
    dim = _cut_dim(parameter)
    missing = parameter.shape[dim] * size - full.shape[dim]
    if missing:
        full = torch.cat((full, full.new_zeros(missing, full.shape[1])))
    parameter.copy_(full.chunk(size, dim)[rank])


def _cut_dim(parameter: nn.Parameter) -> int:
    """The dimension along which a matrix is cut; all of this network's are."""
    dim = partition_dim(parameter)
    assert dim is not None
    return dim

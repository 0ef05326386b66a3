"""Check a network with its weights: every quantity that the case's file records."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cosmos_nemo.golden.autoregressive import generation, positions, shards, training
from cosmos_nemo.golden.autoregressive.build import build_model
from cosmos_nemo.golden.compare import Comparison, compare, failed
from cosmos_nemo.golden.manifest import Case, Tensors
from cosmos_nemo.parallel.process import World

if TYPE_CHECKING:
    from cosmos_nemo.models.autoregressive.model import AutoregressiveTransformer

_HIDDEN = re.compile(r"hidden_after_layer(\d+)")
_NORMED = re.compile(r"layer(\d+)_([qk])_norm_out")

BF16_LOGITS = 0.02
"""Allowed difference of bfloat16 logits in units of the largest: 2.5 units in the last place of 8 bits."""


def check_model(case: Case, world: World) -> list[Comparison]:
    """Compare everything in the file, in the order of computation; a quantity nobody knows is a failure."""
    weights, io = case.load("weights"), case.load()
    model = build_model(case, world, weights=weights)
    comparisons = positions.check_of_model(model.config, case, io)
    comparisons += _check_activations(model, case, io, world)
    comparisons += training.check_training(model, case, io, weights, world)
    comparisons += generation.check_generation(model, case, io, world)
    comparisons += _check_bf16(case, io, weights, world)
    comparisons += shards.check_shards(case, weights)
    known = ("tokens", "context", "context_mask", "top_p.logits", "labels_with_ignore", "trace.batches")
    compared = {c.quantity.split(",")[0] for c in comparisons}
    prompts = {name for name in io if name.startswith("greedy.") and name.endswith("prompt_len")}
    return comparisons + [
        failed(name, "this project has no such quantity")
        for name in io
        if name not in known and name not in compared and name not in prompts
    ]


def inputs_of(case: Case, io: Tensors, world: World) -> dict[str, Any]:
    """Return the arguments of the network's forward beside the tokens."""
    inputs: dict[str, Any] = {"latent_shape": tuple(case.setting("latent"))}
    if "context" in io:
        inputs["context_B_L_E"] = io["context"].to(world.device)
        if "context_mask" in io:
            inputs["context_mask_B_L"] = io["context_mask"][:, 0, 0].to(world.device)
    return inputs


@torch.no_grad()
def _check_activations(model: "AutoregressiveTransformer", case: Case, io: Tensors, world: World) -> list[Comparison]:
    model.eval()
    with _recorded(model, io) as seen:
        logits = model(io["tokens"].to(world.device), **inputs_of(case, io, world))
    seen["logits"] = model.whole_vocabulary(logits).transpose(0, 1)
    tolerance = case.allowed("activations")
    return [
        compare(name, value, io[name], case.allowed("logits") if name == "logits" else tolerance)
        for name, value in seen.items()
        if name in io
    ]


@contextmanager
def _recorded(model: "AutoregressiveTransformer", io: Tensors) -> Iterator[dict[str, Tensor]]:
    """Record, while the context lasts, the activations the file has, as [B, S, ...], in order of computation."""
    seen: dict[str, Tensor] = {}
    handles = []
    for name in io:
        if name == "hidden_final_norm":
            module = model.decoder.final_layernorm
            hook = _hidden(seen, name)
        elif match := _HIDDEN.fullmatch(name):
            module = model.get_submodule(f"decoder.layers.{match[1]}")
            hook = _hidden(seen, name)
        elif match := _NORMED.fullmatch(name):
            attention = model.get_submodule(f"decoder.layers.{match[1]}.self_attention")
            module = attention.linear_qkv
            hook = _normed(seen, name, model, attention, queries=match[2] == "q")
        else:
            continue
        handles.append(module.register_forward_hook(hook))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _hidden(seen: dict[str, Tensor], name: str) -> Any:
    def hook(module: Any, inputs: Any, output: Tensor) -> None:
        seen[name] = output.transpose(0, 1)

    return hook


def _normed(seen: dict[str, Tensor], name: str, model: Any, attention: Any, *, queries: bool) -> Any:
    """Normalised queries or keys before rotation, made again from the projection."""
    from cosmos_nemo.models.autoregressive.layer import by_head
    from cosmos_nemo.parallel.collectives import gather_tokens

    def hook(module: Any, inputs: Any, output: tuple[Tensor, Any]) -> None:
        config = model.config
        parts = config.num_attention_heads // config.num_query_groups + 2
        mixed = by_head(output[0], parts, config.head_dim)
        norm = attention.q_layernorm if queries else attention.k_layernorm
        heads = norm(mixed[..., :-2, :] if queries else mixed[..., -2:-1, :]).flatten(2, 3)  # [S, B, heads, K]
        seen[name] = gather_tokens(heads.movedim(2, 0), model.groups.tp).movedim(0, 2).transpose(0, 1)

    return hook


@torch.no_grad()
def _check_bf16(case: Case, io: Tensors, weights: Tensors, world: World) -> list[Comparison]:
    """Compare the same network in bfloat16; its rounding depends on the order of sums, so within some of its units."""
    if "bf16.logits" not in io:
        return []
    rounded = {name: value.bfloat16() for name, value in weights.items()}
    model = build_model(case, world, weights=rounded, dtype=torch.bfloat16).eval()
    logits = model(io["tokens"].to(world.device), **inputs_of(case, io, world))
    golden = io["bf16.logits"]
    atol = BF16_LOGITS * golden.float().abs().max().item()
    found = [compare("bf16.logits", model.whole_vocabulary(logits).transpose(0, 1), golden, {"atol": atol})]
    if "bf16.loss_total" in io:
        loss = training.loss_of(model, case, io, logits).total
        found.append(compare("bf16.loss_total", loss, io["bf16.loss_total"], {"rtol": 2**-7}))
    return found

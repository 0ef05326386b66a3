"""Merges low-rank adapters into the weights they adapt, on published names."""

import re
from collections.abc import Mapping

from torch import Tensor

from cosmos_nemo.errors import UserError

_ADAPTED = re.compile(r"(?P<module>.+)\.(?P<part>base_layer|lora_A\.default|lora_B\.default)\.weight")
_PARTS = ("base_layer", "lora_A.default", "lora_B.default")


def merge_lora(state: Mapping[str, Tensor], *, alpha: float) -> dict[str, Tensor]:
    """Return plain published weights: W + (alpha / rank) B A for every adapted linear.

    Args:
        state: published names, where an adapted linear `M` has `M.base_layer.weight` W [out, in],
            `M.lora_A.default.weight` A [rank, in] and `M.lora_B.default.weight` B [out, rank]. Everything else is
            kept as it is.
        alpha: LoRA alpha; 0 gives the base weights. The rank is read off A.

    Returns: weights without adapters, `M.weight` in W's dtype; computed in float32.

    Raises:
        UserError: no adapters, an adapted linear with a missing part, or shapes that do not fit.
    Source: Hu et al. 2021, arXiv:2106.09685; Cosmos-Predict2 injects adapters with peft.
    """
    merged: dict[str, Tensor] = {}
    adapted: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if match := _ADAPTED.fullmatch(name):
            adapted.setdefault(match["module"], {})[match["part"]] = tensor
        else:
            merged[name] = tensor
    if not adapted:
        raise UserError(
            "These weights hold no adapters (no key ends in .lora_A.default.weight); there is nothing to merge."
        )
    for module, parts in adapted.items():
        missing = [part for part in _PARTS if part not in parts]
        if missing:
            raise UserError(f"Adapter of {module} is incomplete: {', '.join(missing)}.weight missing.")
        merged[f"{module}.weight"] = _merge(module, *(parts[part] for part in _PARTS), alpha=alpha)
    return merged


def _merge(module: str, base: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Tensor:
    """Return base + (alpha / rank) up @ down in the dtype of base."""
    rank = down.shape[0]
    if (up.shape[0], up.shape[1], down.shape[1]) != (base.shape[0], rank, base.shape[1]):
        raise UserError(
            f"Adapter of {module}: lora_A {tuple(down.shape)} and lora_B {tuple(up.shape)} do not fit the weight "
            f"{tuple(base.shape)}; A must be [rank, in] and B [out, rank]."
        )
    return (base.float() + (alpha / rank) * (up.float() @ down.float())).to(base.dtype)

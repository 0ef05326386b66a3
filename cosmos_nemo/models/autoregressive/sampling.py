"""Tokens from logits, and a video's tokens from its first ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cosmos_nemo.errors import UserError
from cosmos_nemo.models.autoregressive.cache import KVCache
from cosmos_nemo.models.autoregressive.model import AutoregressiveTransformer, LatentShape
from cosmos_nemo.numerics.keyed import generator

Pick = Callable[[Tensor, int], Tensor]
"""Chooses tokens [B] from logits [B, V] for a position in the sequence."""


def greedy(logits_B_V: Tensor, position: int) -> Tensor:
    """The most likely token."""
    return logits_B_V.argmax(-1)


def top_p_probabilities(logits_B_V: Tensor, *, temperature: float, top_p: float) -> Tensor:
    """Probabilities of the most likely tokens that together reach ``top_p``, renormalised; 0 elsewhere.

    In descending order token j is dropped when the probabilities before it add up to more than ``top_p``.

    Args:
        logits_B_V: any float dtype.
        temperature: divides the logits; > 0.
        top_p: in (0, 1]; 1 keeps everything.

    Source: Cosmos-Predict1 `autoregressive/utils/sampling.py`.
    """
    probabilities, order = (logits_B_V.float() / temperature).softmax(-1).sort(-1, descending=True)
    before = probabilities.cumsum(-1) - probabilities
    kept = probabilities.masked_fill(before > top_p, 0.0)
    kept = kept / kept.sum(-1, keepdim=True)
    return torch.zeros_like(kept).scatter_(-1, order, kept)


def top_p_pick(*, temperature: float, top_p: float, seed: int, sample_ids: list[int]) -> Pick:
    """Draws from the distribution of `top_p_probabilities`; greedy at temperature 0.

    One uniform number per token is looked up in the cumulative distribution. It is keyed by (seed, sample, position): a
    sample's tokens do not depend on its batch, on the cache or on the number of processes.

    Args:
        temperature: 0 takes the most likely token.
        top_p: in (0, 1].
        seed: of the draws.
        sample_ids: identity of each sample of the batch.

    Raises:
        UserError: numbers out of range.
    """
    if temperature < 0 or not 0 < top_p <= 1:
        raise UserError(f"temperature={temperature} must not be negative, and top_p={top_p} must be in (0, 1].")
    if temperature == 0:
        return greedy

    def pick(logits_B_V: Tensor, position: int) -> Tensor:
        p_B_V = (logits_B_V.float() / temperature).softmax(-1)
        uniform = (torch.rand((), generator=generator(seed, i, position)).item() for i in sample_ids)
        return torch.stack([_draw(p_V, top_p, u) for p_V, u in zip(p_B_V, uniform, strict=True)])

    return pick


COMMON = 1024
"""Tokens among which the kept ones are sought before all are sorted, which takes a CPU longer than a small network."""


def _draw(p_V: Tensor, top_p: float, uniform: float) -> Tensor:
    """The token at a place in [0, 1) of the cumulative distribution of the most likely tokens, most likely first."""
    p, order = p_V.topk(min(COMMON, len(p_V))) if not p_V.is_cuda else p_V.sort(descending=True)
    if not p_V.is_cuda and p.sum() <= top_p:
        p, order = p_V.sort(descending=True)
    cumulative = p.cumsum(0)
    kept = (cumulative - p <= top_p).sum()
    place = torch.searchsorted(cumulative, cumulative[kept - 1] * uniform, right=True)
    return order[torch.minimum(place, kept - 1)]


@torch.no_grad()
def continue_tokens(
    network: AutoregressiveTransformer,
    prompt_B_S: Tensor,
    *,
    num_tokens: int,
    latent_shape: LatentShape,
    pick: Pick = greedy,
    context_B_L_E: Tensor | None = None,
    context_mask_B_L: Tensor | None = None,
    use_cache: bool = True,
    on_token: Callable[[int], None] | None = None,
) -> Tensor:
    """Extends sequences token by token; every tensor-parallel rank computes the same tokens.

    Args:
        network: in eval mode, one pipeline stage, no context or sequence parallelism.
        prompt_B_S: given tokens, prefix included.
        num_tokens: length of the result.
        latent_shape: (T, H, W) of the whole video.
        pick: chooses a token.
        context_B_L_E: text embedding, for networks that read text.
        context_mask_B_L: True where text may be attended.
        use_cache: keep keys and values; without, every step runs the whole sequence again.
        on_token: called with the sequence's length after every token.

    Returns:
        [B, num_tokens].
    """
    tokens, start = prompt_B_S, prompt_B_S.shape[1]
    text = {"context_B_L_E": context_B_L_E, "context_mask_B_L": context_mask_B_L}
    cache = KVCache(num_tokens) if use_cache else None
    fresh = prompt_B_S
    result = torch.empty(tokens.shape[0], num_tokens, dtype=tokens.dtype, device=tokens.device)
    result[:, :start] = prompt_B_S
    for position in range(start, num_tokens):
        logits = network(fresh, latent_shape=latent_shape, cache=cache, last_only=True, **text)
        result[:, position] = pick(network.whole_vocabulary(logits)[0], position)
        fresh = result[:, position : position + 1] if use_cache else result[:, : position + 1]
        if on_token is not None:
            on_token(position + 1)
    return result

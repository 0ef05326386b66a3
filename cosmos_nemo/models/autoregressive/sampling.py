"""Tokens from logits, and a video's tokens from its first ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cosmos_nemo.diffusion.keyed import generator
from cosmos_nemo.errors import UserError
from cosmos_nemo.models.autoregressive.cache import KVCache
from cosmos_nemo.models.autoregressive.model import AutoregressiveTransformer, LatentShape

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
    """Draws from `top_p_probabilities`; greedy at temperature 0.

    Every draw is keyed by (seed, sample, position): a sample's tokens do not depend on its batch, on the cache or on
    the number of processes.

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
        p = top_p_probabilities(logits_B_V, temperature=temperature, top_p=top_p)
        # The exponential race: argmax of p / q with q ~ Exp(1) is distributed as p.
        q = torch.stack(
            [torch.empty(p.shape[1]).exponential_(generator=generator(seed, i, position)) for i in sample_ids]
        )
        return (p / q.to(p.device)).argmax(-1)

    return pick


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

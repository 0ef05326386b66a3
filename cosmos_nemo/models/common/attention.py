"""Core attention on torch's scaled-dot-product attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def core_attention(q_S_B_N_K: Tensor, k_L_B_N_K: Tensor, v_L_B_N_K: Tensor) -> Tensor:
    """Full softmax attention, no mask, scale 1 / sqrt(K).

    Inputs may be strided views with a contiguous last dimension (slices of a fused projection); they are not copied.

    Returns:
        shape [S, B, N, K].
    """
    q, k, v = (x.permute(1, 2, 0, 3) for x in (q_S_B_N_K, k_L_B_N_K, v_L_B_N_K))  # [S, B, N, K] -> [B, N, S, K]
    return F.scaled_dot_product_attention(q, k, v).permute(2, 0, 1, 3)


def grouped_attention(
    q_B_N_S_K: Tensor, k_B_G_L_K: Tensor, v_B_G_L_K: Tensor, *, causal: bool, mask: Tensor | None = None
) -> Tensor:
    """Softmax attention in which each key/value head serves N / G neighbouring query heads, scale 1 / sqrt(K).

    Args:
        q_B_N_S_K: queries.
        k_B_G_L_K: keys; L >= S when causal: the queries are the last S of L positions.
        v_B_G_L_K: values.
        causal: whether a query sees only its own position and those before it.
        mask: for attention that is not causal, True where a key may be attended; broadcasts to [B, N, S, L].

    Returns:
        shape [S, B, N, K].
    """
    B, N, S, K = q_B_N_S_K.shape
    G, L = k_B_G_L_K.shape[1:3]
    if S == 1 and mask is None:
        # One query sees everything: the query heads of a group take the place of positions, and no key is copied.
        out = F.scaled_dot_product_attention(q_B_N_S_K.view(B, G, N // G, K), k_B_G_L_K, v_B_G_L_K)
        return out.reshape(1, B, N, K) if B == 1 else out.reshape(B, 1, N, K).transpose(0, 1)
    if causal and S != L:
        mask = torch.ones(S, L, dtype=torch.bool, device=q_B_N_S_K.device).tril(diagonal=L - S)
    k, v = k_B_G_L_K, v_B_G_L_K
    gqa = N != G
    if gqa and not q_B_N_S_K.is_cuda:
        # The CPU's blocked kernel takes equal numbers of heads; the one that does not needs S x L memory.
        k, v = (x.unsqueeze(2).expand(B, G, N // G, L, K).flatten(1, 2) for x in (k, v))
        gqa = False
    out = F.scaled_dot_product_attention(
        q_B_N_S_K, k, v, attn_mask=mask, is_causal=causal and mask is None, enable_gqa=gqa
    )
    return out.permute(2, 0, 1, 3)

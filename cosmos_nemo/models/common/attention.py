"""Core attention on torch's scaled-dot-product attention."""

from __future__ import annotations

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

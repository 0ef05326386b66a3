"""One transformer block: self-attention, cross-attention and MLP, each modulated by the noise level."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cosmos_nemo.models.common.attention import core_attention
from cosmos_nemo.models.common.heads import normalised_heads
from cosmos_nemo.models.common.linear import column_linear, row_linear
from cosmos_nemo.models.common.norm import RMSNorm, norm_modulate
from cosmos_nemo.models.common.parts import Parts
from cosmos_nemo.models.common.recompute import CheapInput, recompute_cheap_parts
from cosmos_nemo.models.common.sharded import ShardedModule, mark_tensor_parallel
from cosmos_nemo.models.dit.config import DiTConfig
from cosmos_nemo.models.dit.layout import Layout
from cosmos_nemo.parallel.collectives import gather_tokens_for_split_use, group_size, sum_forward, sum_gradient
from cosmos_nemo.parallel.context import heads_to_sequence, pad_tokens, sequence_to_heads
from cosmos_nemo.parallel.groups import Groups


class AdaLN(ShardedModule):
    """Low-rank modulation of ``num`` sub-layers at once, from one timestep embedding.

    The rank is cut over tensor-parallel ranks, so a block costs one all-reduce of a tensor with one row per frame.
    """

    def __init__(self, config: DiTConfig, groups: Groups, *, num: int, vectors: int) -> None:
        super().__init__(config)
        self.groups = groups
        rank = config.adaln_lora_dim // group_size(groups.tp)
        new = {"dtype": config.params_dtype, "device": groups.device}
        self.down = nn.Parameter(torch.empty(num, rank, config.hidden_size, **new))
        self.up = nn.Parameter(torch.empty(num, vectors * config.hidden_size, rank, **new))
        mark_tensor_parallel(self.down, 1)
        mark_tensor_parallel(self.up, 2)

    def forward(self, silu_e_T_B_D: Tensor, m_T_B: Tensor) -> Tensor:
        """Returns up(down(silu(e))) + m for every sub-layer, shape [num, T, B, vectors * D]."""
        T, B, D = silu_e_T_B_D.shape
        low = torch.matmul(silu_e_T_B_D.view(1, T * B, D), self.down.mT)  # [num, T*B, r]
        high = sum_forward(torch.bmm(low, self.up.mT), self.groups.tp)
        modulation = high.view(-1, T, B, self.up.shape[1]) + m_T_B
        # Each sequence-parallel rank modulates other tokens.
        return sum_gradient(modulation, self.groups.sp)


class SelfAttention(ShardedModule):
    """Full attention among all video tokens, with RMSNorm and rotary embedding on queries and keys."""

    def __init__(self, config: DiTConfig, groups: Groups) -> None:
        super().__init__(config)
        self.groups = groups
        D, K, new = config.hidden_size, config.head_dim, {"dtype": config.params_dtype, "device": groups.device}
        parts = Parts(("self_attn.q", "self_attn.k", "self_attn.v"), rows=(K, K, K))
        self.linear_qkv = column_linear(config, groups, D, 3 * D, parts=parts)
        self.q_layernorm = RMSNorm(K, eps=config.layernorm_epsilon, **new)
        self.k_layernorm = RMSNorm(K, eps=config.layernorm_epsilon, **new)
        self.linear_proj = row_linear(config, groups, D, D, parts=Parts(("self_attn.proj",)))

    def forward(self, h_S_B_D: Tensor, cos: Tensor, sin: Tensor, num_tokens: int) -> Tensor:
        """Attends.

        Args:
            h_S_B_D: this rank's tokens.
            cos: rotary cosines of this context-parallel rank's tokens, [S, 1 or B, K/2].
            sin: sines, same shape.
            num_tokens: tokens of the whole video; what lies beyond is padding.
        """
        mixed = _by_head(self.linear_qkv(h_S_B_D)[0], 3, self.config.head_dim)
        weights = self.q_layernorm.weight, self.k_layernorm.weight
        q, k, v = normalised_heads(mixed, weights, self.config.layernorm_epsilon, cos, sin)
        return self.linear_proj(self._over_context(q, k, v, num_tokens).flatten(2))[0]

    def _over_context(self, q_S_B_N_K: Tensor, k_S_B_N_K: Tensor, v_S_B_N_K: Tensor, num_tokens: int) -> Tensor:
        """Attention among all tokens, of which this context-parallel rank holds the given ones."""
        cp, length = self.groups.cp, q_S_B_N_K.shape[0]
        q, k, v = q_S_B_N_K, k_S_B_N_K, v_S_B_N_K
        if group_size(cp) > 1 and self.config.cp_comm_type == "all_gather":
            k, v = gather_tokens_for_split_use(torch.stack((k, v), dim=2), cp)[:num_tokens].unbind(2)
            return core_attention(q, k, v)
        if group_size(cp) > 1:
            q, k, v = sequence_to_heads(torch.stack((q, k, v), dim=3), cp).unbind(3)
            length = q.shape[0]
        q, k, v = (x[:num_tokens] for x in (q, k, v))
        return heads_to_sequence(pad_tokens(core_attention(q, k, v), length), cp)


class CrossAttention(ShardedModule):
    """Attention from video tokens to all text positions, zero padding included, as in the reference."""

    def __init__(self, config: DiTConfig, groups: Groups) -> None:
        super().__init__(config)
        D, K, new = config.hidden_size, config.head_dim, {"dtype": config.params_dtype, "device": groups.device}
        self.linear_q = column_linear(config, groups, D, D, parts=Parts(("cross_attn.q",)))
        parts = Parts(("cross_attn.k", "cross_attn.v"), rows=(K, K))
        self.linear_kv = column_linear(config, groups, config.crossattn_emb_channels, 2 * D, tokens=False, parts=parts)
        self.q_layernorm = RMSNorm(K, eps=config.layernorm_epsilon, **new)
        self.k_layernorm = RMSNorm(K, eps=config.layernorm_epsilon, **new)
        self.linear_proj = row_linear(config, groups, D, D, parts=Parts(("cross_attn.proj",)))

    def forward(self, h_S_B_D: Tensor, text_L_B_E: Tensor) -> Tensor:
        """Attends; queries stay on their rank because every rank holds all text."""
        K, eps = self.config.head_dim, self.config.layernorm_epsilon
        (q,) = normalised_heads(_by_head(self.linear_q(h_S_B_D)[0], 1, K), (self.q_layernorm.weight,), eps)
        k, v = normalised_heads(_by_head(self.linear_kv(text_L_B_E)[0], 2, K), (self.k_layernorm.weight,), eps)
        return self.linear_proj(core_attention(q, k, v).flatten(2))[0]


def _by_head(mixed: Tensor, parts: int, head_dim: int) -> Tensor:
    """[S, B, N*parts*K] -> [S, B, N, parts, K]."""
    return mixed.view(*mixed.shape[:2], -1, parts, head_dim)


class MLP(ShardedModule):
    """Linear, exact GELU, linear."""

    def __init__(self, config: DiTConfig, groups: Groups) -> None:
        super().__init__(config)
        D, inner = config.hidden_size, config.ffn_hidden_size
        self.linear_fc1 = column_linear(config, groups, D, inner, parts=Parts(("mlp.fc1",)))
        self.linear_fc2 = row_linear(config, groups, inner, D, parts=Parts(("mlp.fc2",)))

    def forward(self, h_S_B_D: Tensor) -> Tensor:
        """Applies the MLP to every token."""
        activation = CheapInput(recompute_cheap_parts(self))
        y = self.linear_fc2(activation.make(F.gelu, self.linear_fc1(h_S_B_D)[0]))[0]
        activation.free(until_gradient_of=y)
        return y


class DiTBlock(ShardedModule):
    """x = x + gate * sublayer(LN(x) * (1 + scale) + shift), for self-attention, cross-attention and MLP in turn."""

    def __init__(self, config: DiTConfig, groups: Groups) -> None:
        super().__init__(config)
        self.adaln = AdaLN(config, groups, num=3, vectors=3)
        self.self_attn = SelfAttention(config, groups)
        self.cross_attn = CrossAttention(config, groups)
        self.mlp = MLP(config, groups)

    def forward(
        self, layout: Layout, x_S_B_D: Tensor, silu_e: Tensor, m: Tensor, text_L_B_E: Tensor, cos: Tensor, sin: Tensor
    ) -> Tensor:
        """Runs the block on this rank's tokens.

        Args:
            layout: which tokens these are.
            x_S_B_D: residual stream.
            silu_e: activated timestep embedding [T, B, D].
            m: modulation shared by all blocks [T, B, 3D].
            text_L_B_E: text embedding.
            cos: rotary cosines.
            sin: rotary sines.
        """
        sublayers: tuple[Callable[[Tensor], Tensor], ...] = (
            lambda h: self.self_attn(h, cos, sin, layout.tokens.num_tokens),
            lambda h: self.cross_attn(h, text_L_B_E),
            self.mlp,
        )
        norm = partial(norm_modulate, eps=self.config.layernorm_epsilon)
        modulations = layout.spread(self.adaln(silu_e, m)).unbind(0)  # 3 of [F, 1, B, 3D]
        x_F_P_B_D = layout.by_frame(x_S_B_D)
        for sublayer, modulation in zip(sublayers, modulations, strict=True):
            shift, scale, gate = modulation.chunk(3, dim=-1)
            modulated = CheapInput(recompute_cheap_parts(self))
            h = modulated.make(norm, x_F_P_B_D, shift, scale)
            y = sublayer(h.view_as(x_S_B_D))
            modulated.free(until_gradient_of=y)
            x_F_P_B_D = torch.addcmul(x_F_P_B_D, gate, layout.by_frame(y))
        return x_F_P_B_D.view_as(x_S_B_D)

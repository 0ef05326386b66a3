"""One transformer layer: causal self-attention, optional cross-attention to text, gated MLP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from megatron.core.transformer.mlp import apply_swiglu_sharded_factory
from torch import Tensor

from cosmos_nemo.models.autoregressive.cache import KVCache
from cosmos_nemo.models.autoregressive.config import ARConfig
from cosmos_nemo.models.common.attention import grouped_attention
from cosmos_nemo.models.common.heads import normalised_heads
from cosmos_nemo.models.common.linear import column_linear, row_linear
from cosmos_nemo.models.common.norm import RMSNorm
from cosmos_nemo.models.common.parts import Parts
from cosmos_nemo.models.common.recompute import CheapInput, recompute_cheap_parts
from cosmos_nemo.models.common.sharded import ShardedModule, mark_sequence_parallel
from cosmos_nemo.models.common.swiglu import swiglu
from cosmos_nemo.parallel.collectives import gather_tokens_for_split_use, group_rank, group_size
from cosmos_nemo.parallel.context import heads_to_sequence, sequence_to_heads
from cosmos_nemo.parallel.groups import Groups


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What every layer of one call is given beside the residual stream. Nothing in here has a gradient."""

    cos: Tensor
    """Rotary cosines of the tokens that this rank's attention rotates, float32 [S, 1, K/2]."""
    sin: Tensor
    """Sines, same shape."""
    position_S_1_D: Tensor | None
    """Sinusoid of this rank's tokens, added before every layer."""
    text_L_B_E: Tensor | None
    """Text embedding."""
    text_mask_B_1_1_L: Tensor | None
    """True where text may be attended; None: everywhere."""
    cache: KVCache | None
    """Tokens of earlier calls."""


class SelfAttention(ShardedModule):
    """Causal grouped-query attention with RMSNorm and rotary embedding on queries and keys.

    The fused projection holds, for every key/value head g: its query heads, key head g, value head g.
    """

    def __init__(self, config: ARConfig, groups: Groups, *, number: int) -> None:
        super().__init__(config)
        self.groups, self.number = groups, number
        D, K, heads, kv_heads = (
            config.hidden_size,
            config.head_dim,
            config.num_attention_heads,
            config.num_query_groups,
        )
        new = {"eps": config.layernorm_epsilon, "dtype": config.params_dtype, "device": groups.device}
        parts = Parts(("self_attn.q", "self_attn.k", "self_attn.v"), rows=(heads // kv_heads * K, K, K))
        self.linear_qkv = column_linear(config, groups, D, (heads + 2 * kv_heads) * K, parts=parts)
        self.q_layernorm = RMSNorm(K, **new)
        self.k_layernorm = RMSNorm(K, **new)
        self.linear_proj = row_linear(config, groups, heads * K, D, parts=Parts(("self_attn.proj",)))

    def forward(self, h_S_B_D: Tensor, around: Surroundings) -> Tensor:
        """Attends from this rank's tokens to all tokens before them."""
        config, cp = self.config, self.groups.cp
        parts = config.num_attention_heads // config.num_query_groups + 2
        mixed = by_head(self.linear_qkv(h_S_B_D)[0], parts, config.head_dim)
        by_exchange = group_size(cp) > 1 and config.cp_comm_type == "a2a"
        if by_exchange:
            mixed = sequence_to_heads(mixed, cp)
        q, k, v = self._heads(mixed, around)
        if around.cache is not None:
            k, v = around.cache.extend(self.number, k, v)
        elif group_size(cp) > 1 and not by_exchange:
            k, v = self._all_before(k, v)
        out_S_B_N_K = grouped_attention(q, k, v, causal=True)
        if by_exchange:
            out_S_B_N_K = heads_to_sequence(out_S_B_N_K, cp)
        return self.linear_proj(out_S_B_N_K.flatten(2))[0]

    def _heads(self, mixed_S_B_G_P_K: Tensor, around: Surroundings) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, N, S, K], keys and values [B, G, S, K]."""
        return normalised_heads_of_groups(
            mixed_S_B_G_P_K,
            self.q_layernorm.weight,
            self.k_layernorm.weight,
            self.config.layernorm_epsilon,
            around.cos,
            around.sin,
        )

    def _all_before(self, k_B_G_S_K: Tensor, v_B_G_S_K: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the tokens up to this context-parallel rank's last: [B, G, S * (rank + 1), K]."""
        both = torch.stack((k_B_G_S_K, v_B_G_S_K)).permute(3, 0, 1, 2, 4)  # [S, 2, B, G, K]
        gathered = gather_tokens_for_split_use(both, self.groups.cp)
        seen = gathered[: both.shape[0] * (group_rank(self.groups.cp) + 1)]
        k, v = seen.permute(1, 2, 3, 0, 4).unbind(0)
        return k, v


def normalised_heads_of_groups(
    mixed_S_B_G_P_K: Tensor, q_weight: Tensor, k_weight: Tensor, eps: float, cos: Tensor, sin: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Splits, normalises and rotates a grouped projection: queries [B, N, S, K], keys and values [B, G, S, K]."""
    queries = mixed_S_B_G_P_K.shape[3] - 2
    *q, k, v = (
        part.permute(1, 2, 0, 3)  # [S, B, G, K] -> [B, G, S, K]
        for part in normalised_heads(mixed_S_B_G_P_K, (*[q_weight] * queries, k_weight), eps, cos, sin)
    )
    return torch.stack(q, dim=2).flatten(1, 2), k, v


class CrossAttention(ShardedModule):
    """Attention from video tokens to text, without rotation; the projection holds, per head, key then value."""

    def __init__(self, config: ARConfig, groups: Groups, *, number: int) -> None:
        super().__init__(config)
        self.number = number
        D, K, heads = config.hidden_size, config.head_dim, config.num_attention_heads
        new = {"eps": config.layernorm_epsilon, "dtype": config.params_dtype, "device": groups.device}
        self.linear_q = column_linear(config, groups, D, heads * K, parts=Parts(("cross_attn.q",)))
        parts = Parts(("cross_attn.k", "cross_attn.v"), rows=(K, K))
        E, outputs = config.crossattn_emb_channels, 2 * config.num_query_groups * K
        self.linear_kv = column_linear(config, groups, E, outputs, tokens=False, parts=parts)
        self.q_layernorm = RMSNorm(K, **new)
        self.k_layernorm = RMSNorm(K, **new)
        self.linear_proj = row_linear(config, groups, heads * K, D, parts=Parts(("cross_attn.proj",)))

    def forward(self, h_S_B_D: Tensor, around: Surroundings) -> Tensor:
        """Attends; queries stay on their rank because every rank holds all text."""
        K, eps = self.config.head_dim, self.config.layernorm_epsilon
        (q,) = normalised_heads(by_head(self.linear_q(h_S_B_D)[0], 1, K), (self.q_layernorm.weight,), eps)
        k, v = self._text_heads(around)
        out = grouped_attention(q.permute(1, 2, 0, 3), k, v, causal=False, mask=around.text_mask_B_1_1_L)
        return self.linear_proj(out.flatten(2))[0]

    def _text_heads(self, around: Surroundings) -> tuple[Tensor, Tensor]:
        """Keys and values of the text, [B, G, L, K]."""
        kept = around.cache.text(self.number) if around.cache is not None else None
        if kept is not None:
            return kept
        mixed = by_head(self.linear_kv(around.text_L_B_E)[0], 2, self.config.head_dim)
        k, v = normalised_heads(mixed, (self.k_layernorm.weight,), self.config.layernorm_epsilon)
        k, v = k.permute(1, 2, 0, 3), v.permute(1, 2, 0, 3)
        if around.cache is not None:
            around.cache.keep_text(self.number, k, v)
        return k, v


def by_head(mixed: Tensor, parts: int, head_dim: int) -> Tensor:
    """[S, B, G*parts*K] -> [S, B, G, parts, K]."""
    return mixed.view(*mixed.shape[:2], -1, parts, head_dim)


class MLP(ShardedModule):
    """W2 (silu(W1 x) * W3 x); linear_fc1 holds this rank's rows of W1, then those of W3."""

    def __init__(self, config: ARConfig, groups: Groups) -> None:
        super().__init__(config)
        D, inner = config.hidden_size, config.ffn_hidden_size
        parts = Parts(("mlp.fc1.gate", "mlp.fc1.up"))
        self.linear_fc1 = column_linear(config, groups, D, 2 * inner, parts=parts)
        self.linear_fc2 = row_linear(config, groups, inner, D, parts=Parts(("mlp.fc2",)))

    def forward(self, h_S_B_D: Tensor) -> Tensor:
        """Applies the MLP to every token."""
        activation = CheapInput(recompute_cheap_parts(self))
        y = self.linear_fc2(activation.make(swiglu, self.linear_fc1(h_S_B_D)[0]))[0]
        activation.free(until_gradient_of=y)
        return y

    def sharded_state_dict(self, prefix: str = "", sharded_offsets: tuple = (), metadata: dict | None = None) -> dict:
        """Both halves of linear_fc1 are cut by themselves, so that the checkpoint holds [W1; W3] at any size."""
        state = super().sharded_state_dict(prefix, sharded_offsets, metadata)
        key = f"{prefix}linear_fc1.weight"
        state[key] = apply_swiglu_sharded_factory(state[key], sharded_offsets)
        return state


class TransformerLayer(ShardedModule):
    """x = x + sublayer(RMSNorm(x)), for self-attention, cross-attention (where there is one) and MLP in turn."""

    def __init__(self, config: ARConfig, groups: Groups, *, number: int) -> None:
        """Builds the layer.

        Args:
            config: size and settings.
            groups: process groups.
            number: of the layer in the whole network, from 0.
        """
        super().__init__(config)
        self.input_layernorm = token_norm(config, groups)
        self.self_attention = SelfAttention(config, groups, number=number)
        if config.has_cross_attention(number):
            self.pre_cross_attn_layernorm = token_norm(config, groups)
            self.cross_attention = CrossAttention(config, groups, number=number)
        self.pre_mlp_layernorm = token_norm(config, groups)
        self.mlp = MLP(config, groups)

    def forward(self, x_S_B_D: Tensor, around: Surroundings) -> Tensor:
        """Runs the layer on this rank's tokens."""
        x = x_S_B_D if around.position_S_1_D is None else x_S_B_D + around.position_S_1_D
        x = self._add(x, self.input_layernorm, lambda h: self.self_attention(h, around))
        if "cross_attention" in self._modules:
            x = self._add(x, self.pre_cross_attn_layernorm, lambda h: self.cross_attention(h, around))
        return self._add(x, self.pre_mlp_layernorm, self.mlp)

    def _add(self, x: Tensor, norm: RMSNorm, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        normalised = CheapInput(recompute_cheap_parts(self))
        y = sublayer(normalised.make(norm, x))
        normalised.free(until_gradient_of=y)
        return x + y


def token_norm(config: ARConfig, groups: Groups) -> RMSNorm:
    """A norm over the residual stream, of which a sequence-parallel rank holds a part of the tokens."""
    norm = RMSNorm(config.hidden_size, eps=config.layernorm_epsilon, dtype=config.params_dtype, device=groups.device)
    mark_sequence_parallel(norm.weight, config.sequence_parallel)
    return norm

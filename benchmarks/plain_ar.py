"""The autoregressive network in plain torch, for one device: the yardstick of `benchmarks/autoregressive.py`.

Written as one would without knowing of parallelism: a linear layer per matrix, torch's own attention and losses. Its
parameters have the published names, so it takes the weights of `published_state_dict`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cosmos_nemo.models.autoregressive.config import ARConfig
from cosmos_nemo.models.autoregressive.positions import rotary_angles


class Norm(nn.Module):
    """Root-mean-square normalisation in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalises the last dimension."""
        x32 = x.float()
        return (x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype) * self.weight


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates halves of [B, S, N, K] by angles [S, 1, K]."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Attention(nn.Module):
    """Causal grouped-query attention with normalised, rotated queries and keys."""

    def __init__(self, config: ARConfig) -> None:
        super().__init__()
        D, K, eps = config.hidden_size, config.head_dim, config.layernorm_epsilon
        self.head_dim = K
        self.wq = nn.Linear(D, config.num_attention_heads * K, bias=False)
        self.wk = nn.Linear(D, config.num_query_groups * K, bias=False)
        self.wv = nn.Linear(D, config.num_query_groups * K, bias=False)
        self.wo = nn.Linear(config.num_attention_heads * K, D, bias=False)
        self.q_norm, self.k_norm = Norm(K, eps), Norm(K, eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """[B, S, D] -> [B, S, D]."""
        q, k, v = (w(x).unflatten(-1, (-1, self.head_dim)) for w in (self.wq, self.wk, self.wv))
        q, k = rotate(self.q_norm(q), cos, sin), rotate(self.k_norm(k), cos, sin)
        q, k, v = (h.transpose(1, 2) for h in (q, k, v))
        repeats = q.shape[1] // k.shape[1]
        if x.is_cuda:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=repeats > 1)
        else:
            k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.wo(out.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """W2 (silu(W1 x) * W3 x)."""

    def __init__(self, config: ARConfig) -> None:
        super().__init__()
        D, hidden = config.hidden_size, config.ffn_hidden_size
        self.w1, self.w3 = nn.Linear(D, hidden, bias=False), nn.Linear(D, hidden, bias=False)
        self.w2 = nn.Linear(hidden, D, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, S, D] -> [B, S, D]."""
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Layer(nn.Module):
    """Attention and MLP, each behind a norm and beside the residual stream."""

    def __init__(self, config: ARConfig) -> None:
        super().__init__()
        self.attention_norm = Norm(config.hidden_size, config.layernorm_epsilon)
        self.attention = Attention(config)
        self.ffn_norm = Norm(config.hidden_size, config.layernorm_epsilon)
        self.feed_forward = FeedForward(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """[B, S, D] -> [B, S, D]."""
        x = x + self.attention(self.attention_norm(x), cos, sin)
        return x + self.feed_forward(self.ffn_norm(x))


class PlainTransformer(nn.Module):
    """Token ids [B, S] -> logits [B, S, V]."""

    def __init__(self, config: ARConfig, latent_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(config.input_vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.norm = Norm(config.hidden_size, config.layernorm_epsilon)
        self.output = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        angles = rotary_angles(config, latent_shape)
        angles = torch.cat((angles, angles), dim=-1)[:, None]
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Predicts every token's successor."""
        x = self.tok_embeddings(tokens)
        cos, sin = self.cos[: tokens.shape[1]].to(x.dtype), self.sin[: tokens.shape[1]].to(x.dtype)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.output(self.norm(x))


def plain_loss(logits: Tensor, tokens: Tensor, *, given: int, z_loss_coeff: float) -> Tensor:
    """Cross entropy from the first token that is not given, plus z-loss over all, in float32."""
    logits = logits[:, :-1].float()
    ce = F.cross_entropy(logits[:, given - 1 :].flatten(0, 1), tokens[:, given:].flatten())
    return ce + z_loss_coeff * logits.logsumexp(-1).square().mean()

"""Sizes and settings of the autoregressive transformer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from megatron.core.transformer.transformer_config import TransformerConfig

from cosmos_nemo.errors import UserError
from cosmos_nemo.models.common.recompute import settle_recompute
from cosmos_nemo.parallel.sizes import ParallelSizes


@dataclass(kw_only=True)
class ARConfig(TransformerConfig):
    """An autoregressive network. Fields not listed here are Megatron's, under Megatron's names.

    Numbers of the published sizes are those of Cosmos-Predict1 `autoregressive/configs/base/model_config.py`.
    """

    family: ClassVar[str] = "autoregressive"

    # Megatron fields with this network's values.
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    add_bias_linear: bool = False
    normalization: str = "RMSNorm"
    layernorm_epsilon: float = 1e-5
    gated_linear_unit: bool = True
    activation_func: Callable[..., Any] = F.silu
    # Makes Megatron sum the gradients of q_layernorm and k_layernorm over tensor-parallel ranks (other heads).
    qk_layernorm: bool = True
    # Need Apex or a compiler. Megatron's defaults are False too, but NeMo recipes like to switch them on.
    gradient_accumulation_fusion: bool = False
    bias_activation_fusion: bool = False
    bias_dropout_fusion: bool = False
    apply_rope_fusion: bool = False
    use_cpu_initialization: bool | None = None
    """Whether weights are made on the CPU; None: where there is no CUDA."""
    cp_comm_type: str = "a2a"
    """How self-attention sees all tokens under context parallelism: "a2a" exchanges heads for tokens (the key/value
    heads of a tensor-parallel rank must divide by the context-parallel size; every rank has equal work), "all_gather"
    gathers keys and values (the last rank has the longest causal rows)."""

    vocab_size: int = 64000
    """Rows of the output layer: the codebook of the DV tokenizer."""
    input_vocab_size: int | None = None
    """Rows of the embedding; None: `vocab_size`. Networks that read text have 64 more, for special ids."""
    num_prefix_tokens: int = 0
    """Tokens in front of the video: 1 (begin of video, id `vocab_size`) in networks that read text. They have no
    position."""
    rotary_base: float = 500000.0
    """Base of the rotary frequencies on all three axes."""
    use_yarn: bool = False
    """Whether low frequencies are stretched (YaRN); on in the 12B and 13B networks."""
    yarn_original_latent_shape: tuple[int, int, int] = (3, 40, 64)
    """Latent shape (T, H, W) before stretching."""
    yarn_scale: float = 2.0
    """Stretch factor of the lowest frequencies."""
    yarn_beta_fast: float = 4.0
    """Turns over the original length above which a frequency is left alone."""
    yarn_beta_slow: float = 1.0
    """Turns over the original length below which a frequency is stretched fully."""
    use_abs_pos_emb: bool = False
    """Whether a sinusoid of the position is added before every layer; on in networks that read text."""
    crossattn_emb_channels: int = 0
    """Width of the text embedding; 0: no cross-attention."""
    insert_cross_attn_every_k_layers: int = 1
    """Which layers have cross-attention: those whose number (from 0) is a multiple of this."""
    init_seed: int | None = None
    """Seed of a fresh network's weights; None: the run's, and 0 for a network on its own."""

    def __post_init__(self) -> None:
        if self.use_cpu_initialization is None:
            self.use_cpu_initialization = not torch.cuda.is_available()
        settle_recompute(self)
        if self.input_vocab_size is None:
            self.input_vocab_size = self.vocab_size
        if self.num_query_groups is None:
            self.num_query_groups = self.num_attention_heads
        self.yarn_original_latent_shape = tuple(self.yarn_original_latent_shape)
        self.check()
        super().__post_init__()

    @property
    def head_dim(self) -> int:
        """Width of one attention head, K."""
        return self.kv_channels or self.hidden_size // self.num_attention_heads

    def has_cross_attention(self, layer: int) -> bool:
        """Whether the layer with this number (from 0) attends to text."""
        return self.crossattn_emb_channels > 0 and layer % self.insert_cross_attn_every_k_layers == 0

    def padded_vocab(self, rows: int) -> int:
        """``rows`` of a vocabulary, rounded up until the tensor-parallel size divides them."""
        tp = self.tensor_model_parallel_size
        return -(-rows // tp) * tp

    def num_tokens(self, latent_shape: tuple[int, int, int]) -> int:
        """Length of the sequence of one video, prefix included."""
        T, H, W = latent_shape
        return self.num_prefix_tokens + T * H * W

    def check(self) -> None:
        """Rejects settings that contradict each other.

        Called on construction and again when a network is built, because trainers set parallel sizes in between.

        Raises:
            UserError: naming the setting and its legal values.
        """
        heads, groups = self.num_attention_heads, self.num_query_groups
        if self.num_layers < 1 or self.hidden_size < 1 or heads < 1:
            raise UserError(
                "ARConfig needs num_layers, hidden_size and num_attention_heads; "
                f"got {self.num_layers}, {self.hidden_size}, {heads}. Take a size such as AR4BConfig."
            )
        if self.kv_channels is None and self.hidden_size % heads:
            raise UserError(
                f"hidden_size={self.hidden_size} does not divide by num_attention_heads={heads}; set kv_channels."
            )
        if self.head_dim % 2 or self.head_dim < 6:
            raise UserError(
                f"kv_channels={self.head_dim} is not an even head size of at least 6, which the rotary embedding over "
                "three axes needs."
            )
        if groups < 1 or heads % groups:
            raise UserError(f"num_query_groups={groups} does not divide num_attention_heads={heads}.")
        self._check_parallel_sizes()

    def _check_parallel_sizes(self) -> None:
        sizes, key_heads = ParallelSizes.of(self), {"num_query_groups": self.num_query_groups or 1}
        mlp = {"ffn_hidden_size": self.ffn_hidden_size or 4 * self.hidden_size}
        sizes.require("tensor", {"num_attention_heads": self.num_attention_heads} | key_heads | mlp)
        sizes.require_context(key_heads, self.cp_comm_type)
        sizes.require("pipeline", {"num_layers": self.num_layers})
        if self.virtual_pipeline_model_parallel_size is not None:
            raise UserError(
                "virtual_pipeline_model_parallel_size is not supported by the autoregressive network; leave it unset."
            )


@dataclass(kw_only=True)
class AR4BConfig(ARConfig):
    """Cosmos-Predict1-4B: 4,014,088,192 parameters."""

    num_layers: int = 16
    hidden_size: int = 4096
    num_attention_heads: int = 32
    num_query_groups: int | None = 8
    kv_channels: int | None = 128
    ffn_hidden_size: int | None = 14336


@dataclass(kw_only=True)
class AR12BConfig(AR4BConfig):
    """Cosmos-Predict1-12B: 11,560,975,360 parameters."""

    num_layers: int = 40
    hidden_size: int = 5120
    use_yarn: bool = True


@dataclass(kw_only=True)
class ARVideo2World5BConfig(AR4BConfig):
    """Cosmos-Predict1-5B-Video2World: the 4B network with text, 4,584,845,312 parameters."""

    input_vocab_size: int | None = 64064
    num_prefix_tokens: int = 1
    use_abs_pos_emb: bool = True
    crossattn_emb_channels: int = 1024


@dataclass(kw_only=True)
class ARVideo2World13BConfig(AR12BConfig):
    """Cosmos-Predict1-13B-Video2World: the 12B network with text, 13,323,125,760 parameters."""

    input_vocab_size: int | None = 64064
    num_prefix_tokens: int = 1
    use_abs_pos_emb: bool = True
    crossattn_emb_channels: int = 1024


@dataclass(kw_only=True)
class ARTinyConfig(ARConfig):
    """Small enough for a CPU, for tests and demos; the whole codebook."""

    num_layers: int = 4
    hidden_size: int = 128
    num_attention_heads: int = 8
    num_query_groups: int | None = 4
    ffn_hidden_size: int | None = 448


AUTOREGRESSIVE: dict[str, type[ARConfig]] = {
    "4b": AR4BConfig,
    "12b": AR12BConfig,
    "v2w_5b": ARVideo2World5BConfig,
    "v2w_13b": ARVideo2World13BConfig,
    "tiny": ARTinyConfig,
}
"""Every published size and the tiny one."""

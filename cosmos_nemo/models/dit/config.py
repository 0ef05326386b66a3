"""Sizes and settings of the diffusion transformers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from megatron.core.transformer.transformer_config import TransformerConfig

from cosmos_nemo.errors import UserError
from cosmos_nemo.models.common.recompute import settle_recompute
from cosmos_nemo.parallel.sizes import ParallelSizes


@dataclass(kw_only=True)
class DiTConfig(TransformerConfig):
    """A diffusion transformer. Fields not listed here are Megatron's, under Megatron's names.

    A family of networks derives its own class, which says the family's name in `family`.
    """

    # Megatron fields with this network's values.
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    add_bias_linear: bool = False
    normalization: str = "RMSNorm"
    layernorm_epsilon: float = 1e-6
    # Makes Megatron sum the gradients of q_layernorm and k_layernorm over tensor-parallel ranks (other heads).
    qk_layernorm: bool = True
    # Needs Apex. Megatron's default is False too, but NeMo recipes like to switch it on.
    gradient_accumulation_fusion: bool = False
    use_cpu_initialization: bool | None = None
    """Whether weights are made on the CPU; None: where there is no CUDA."""
    cp_comm_type: str = "a2a"
    """How self-attention sees all tokens under context parallelism: "a2a" exchanges heads for tokens (the heads of a
    tensor-parallel rank must divide by the context-parallel size), "all_gather" gathers keys and values."""

    in_channels: int = 16
    """Latent channels of the input (Wan2.1 VAE)."""
    out_channels: int = 16
    """Latent channels of the output."""
    video_condition: bool = False
    """Whether a condition-mask channel is appended to the input (Video2World)."""
    concat_padding_mask: bool = True
    """Whether a padding-mask channel is appended to the input."""
    patch_spatial: int = 2
    """Side of a patch in latent pixels."""
    patch_temporal: int = 1
    """Latent frames per patch; only 1 is known."""
    crossattn_emb_channels: int = 1024
    """Width of the text embedding (T5-11B: 1024)."""
    adaln_lora_dim: int = 256
    """Rank of the modulation matrices."""
    rope_t_extrapolation_ratio: float = 1.0
    """RoPE extrapolation along time."""
    rope_h_extrapolation_ratio: float = 1.0
    """RoPE extrapolation along height."""
    rope_w_extrapolation_ratio: float = 1.0
    """RoPE extrapolation along width."""
    rope_enable_fps_modulation: bool = False
    """Whether temporal positions are scaled by 24 / fps; off in every published model."""
    max_img_h: int = 240
    """Largest latent height."""
    max_img_w: int = 240
    """Largest latent width."""
    max_frames: int = 128
    """Largest number of latent frames."""
    init_seed: int | None = None
    """Seed of a fresh network's weights; None: the run's, and 0 for a network on its own."""

    def __post_init__(self) -> None:
        if self.use_cpu_initialization is None:
            self.use_cpu_initialization = not torch.cuda.is_available()
        settle_recompute(self)
        self.check()
        super().__post_init__()

    @property
    def patch_channels(self) -> int:
        """Channels seen by the patch layer: latent, then condition mask, then padding mask."""
        return self.in_channels + self.video_condition + self.concat_padding_mask

    @property
    def head_dim(self) -> int:
        """Width of one attention head, K."""
        return self.hidden_size // self.num_attention_heads

    @property
    def rope_ratios(self) -> tuple[float, float, float]:
        """RoPE extrapolation ratios (t, h, w)."""
        return self.rope_t_extrapolation_ratio, self.rope_h_extrapolation_ratio, self.rope_w_extrapolation_ratio

    def check(self) -> None:
        """Rejects settings that contradict each other.

        Called on construction and again when a network is built, because trainers set parallel sizes in between.

        Raises:
            UserError: naming the setting and its legal values.
        """
        heads = self.num_attention_heads
        if self.num_layers < 1 or self.hidden_size < 1 or heads < 1:
            raise UserError(
                "DiTConfig needs num_layers, hidden_size and num_attention_heads; "
                f"got {self.num_layers}, {self.hidden_size}, {heads}. Take a size such as Predict2Video2World2BConfig."
            )
        if self.hidden_size % heads or self.head_dim % 2 or self.head_dim < 12:
            raise UserError(
                f"hidden_size={self.hidden_size} over num_attention_heads={heads} is not an even head size of at least "
                "12, which the rotary embedding over three axes needs; change one of them."
            )
        if self.patch_temporal != 1:
            raise UserError(f"patch_temporal={self.patch_temporal} is not supported; use 1.")
        self._check_parallel_sizes()

    def _check_parallel_sizes(self) -> None:
        sizes, heads = ParallelSizes.of(self), self.num_attention_heads
        sizes.allow(("tensor", "sequence", "context"), who="the DiT")
        sizes.require("tensor", {"num_attention_heads": heads, "adaln_lora_dim": self.adaln_lora_dim})
        sizes.require_context({"num_attention_heads": heads}, self.cp_comm_type)


@dataclass(kw_only=True)
class Predict2Config(DiTConfig):
    """A Predict2 network.

    Numbers of the published sizes are those of Cosmos-Predict2 `config_text2image.py` and `config_video2world.py`.
    """

    family: ClassVar[str] = "predict2"


@dataclass(kw_only=True)
class Predict2Text2Image600MConfig(Predict2Config):
    """Cosmos-Predict2-0.6B-Text2Image: 597,536,000 parameters."""

    num_layers: int = 20
    hidden_size: int = 1280
    num_attention_heads: int = 20
    rope_h_extrapolation_ratio: float = 4.0
    rope_w_extrapolation_ratio: float = 4.0


@dataclass(kw_only=True)
class Predict2Text2Image2BConfig(Predict2Config):
    """Cosmos-Predict2-2B-Text2Image: 1,956,405,248 parameters."""

    num_layers: int = 28
    hidden_size: int = 2048
    num_attention_heads: int = 16
    rope_h_extrapolation_ratio: float = 4.0
    rope_w_extrapolation_ratio: float = 4.0


@dataclass(kw_only=True)
class Predict2Text2Image14BConfig(Predict2Config):
    """Cosmos-Predict2-14B-Text2Image: 14,265,265,152 parameters."""

    num_layers: int = 36
    hidden_size: int = 5120
    num_attention_heads: int = 40
    rope_h_extrapolation_ratio: float = 4.0
    rope_w_extrapolation_ratio: float = 4.0


@dataclass(kw_only=True)
class Predict2Video2World2BConfig(Predict2Text2Image2BConfig):
    """Cosmos-Predict2-2B-Video2World: 1,956,413,440 parameters."""

    video_condition: bool = True
    rope_h_extrapolation_ratio: float = 3.0
    rope_w_extrapolation_ratio: float = 3.0


@dataclass(kw_only=True)
class Predict2Video2World14BConfig(Predict2Text2Image14BConfig):
    """Cosmos-Predict2-14B-Video2World: 14,265,285,632 parameters."""

    video_condition: bool = True
    rope_t_extrapolation_ratio: float = 0.8333333333333334  # 20 / 24, as published
    rope_h_extrapolation_ratio: float = 2.0
    rope_w_extrapolation_ratio: float = 2.0


@dataclass(kw_only=True)
class Predict2Text2ImageTinyConfig(Predict2Config):
    """Small enough for a CPU, for tests and demos."""

    num_layers: int = 4
    hidden_size: int = 128
    num_attention_heads: int = 4
    crossattn_emb_channels: int = 64
    adaln_lora_dim: int = 32


@dataclass(kw_only=True)
class Predict2Video2WorldTinyConfig(Predict2Text2ImageTinyConfig):
    """Small enough for a CPU, for tests and demos."""

    video_condition: bool = True


PREDICT2: dict[str, type[Predict2Config]] = {
    "text2image_600m": Predict2Text2Image600MConfig,
    "text2image_2b": Predict2Text2Image2BConfig,
    "text2image_14b": Predict2Text2Image14BConfig,
    "text2image_tiny": Predict2Text2ImageTinyConfig,
    "video2world_2b": Predict2Video2World2BConfig,
    "video2world_14b": Predict2Video2World14BConfig,
    "video2world_tiny": Predict2Video2WorldTinyConfig,
}
"""Every published size and the tiny ones, by task and size."""

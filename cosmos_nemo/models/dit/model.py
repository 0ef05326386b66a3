"""The Predict2 diffusion transformer."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from megatron.core.enums import ModelType
from torch import Tensor, nn

from cosmos_nemo.errors import UserError
from cosmos_nemo.models.common.linear import column_linear, row_linear
from cosmos_nemo.models.common.norm import RMSNorm, norm_modulate
from cosmos_nemo.models.common.recompute import run_layers
from cosmos_nemo.models.common.rope import rope_angles
from cosmos_nemo.models.common.sharded import ShardedModule, initialize, mark_sequence_parallel, without_initialization
from cosmos_nemo.models.dit.config import DiTConfig
from cosmos_nemo.models.dit.layer import AdaLN, DiTBlock
from cosmos_nemo.models.dit.layout import Layout
from cosmos_nemo.parallel.collectives import gather_tokens, sum_gradient
from cosmos_nemo.parallel.groups import Groups


class PatchEmbed(ShardedModule):
    """Linear map of flattened patches to D; the weight is whole on every rank."""

    def __init__(self, config: DiTConfig, groups: Groups) -> None:
        super().__init__(config)
        inputs = config.patch_channels * config.patch_temporal * config.patch_spatial**2
        self.weight = nn.Parameter(
            torch.empty(config.hidden_size, inputs, dtype=config.params_dtype, device=groups.device)
        )
        mark_sequence_parallel(self.weight, config.sequence_parallel)

    def forward(self, patches_S_B_C: Tensor) -> Tensor:
        """[S, B, C*4] -> [S, B, D]."""
        return F.linear(patches_S_B_C, self.weight)


class TimeEmbed(ShardedModule):
    """Sinusoid of the timestep, the modulation shared by all blocks, and the embedding each block starts from."""

    def __init__(self, config: DiTConfig, groups: Groups) -> None:
        super().__init__(config)
        self.groups = groups
        D = config.hidden_size
        self.linear_1 = column_linear(config, groups, D, D, tokens=False)
        self.linear_2 = row_linear(config, groups, D, 3 * D, tokens=False)
        self.norm = RMSNorm(D, eps=config.layernorm_epsilon, dtype=config.params_dtype, device=groups.device)

    def forward(self, timesteps_T_B: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (m [T, B, 3D], silu(e) [T, B, D]).

        m = W2 silu(W1 s) and e = RMSNorm(s), both from the sinusoid s of the timestep (in [0, 1], no factor 1000).
        """
        s = sinusoid(timesteps_T_B, self.config.hidden_size)
        m = self.linear_2(F.silu(self.linear_1(s)[0]))[0]
        # Every tensor-parallel rank continues from e with its own slice of the modulation matrices.
        return m, sum_gradient(F.silu(self.norm(s)), self.groups.tp)


def sinusoid(t: Tensor, size: int) -> Tensor:
    """[cos(t w), sin(t w)] with w_j = 10000^(-j / (size/2)), computed in float32 and cast to the dtype of ``t``.

    Args:
        t: any shape.
        size: even.

    Returns:
        shape [..., size].
    """
    half = size // 2
    w = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t.float()[..., None] * w
    return torch.cat((angles.cos(), angles.sin()), dim=-1).to(t.dtype)


class FinalLayer(ShardedModule):
    """Modulated LayerNorm and a linear map to the pixels of a patch."""

    def __init__(self, config: DiTConfig, groups: Groups) -> None:
        super().__init__(config)
        self.adaln = AdaLN(config, groups, num=1, vectors=2)
        outputs = config.out_channels * config.patch_temporal * config.patch_spatial**2
        self.linear = nn.Linear(
            config.hidden_size, outputs, bias=False, dtype=config.params_dtype, device=groups.device
        )
        mark_sequence_parallel(self.linear.weight, config.sequence_parallel)

    def forward(self, x_S_B_D: Tensor, silu_e: Tensor, m: Tensor, layout: Layout) -> Tensor:
        """[S, B, D] -> [S, B, 64]."""
        modulation = layout.spread(self.adaln(silu_e, m[..., : 2 * self.config.hidden_size])[0])
        shift, scale = modulation.chunk(2, dim=-1)
        h = norm_modulate(layout.by_frame(x_S_B_D), shift, scale, self.config.layernorm_epsilon)
        return self.linear(h.view_as(x_S_B_D))


class DiT(ShardedModule):
    """Cosmos-Predict2's network for Video2World and Text2Image.

    Parallel layout: weights are cut over the tensor-parallel group; tokens over the context-parallel group and, with
    ``sequence_parallel``, further over the tensor-parallel group. Inputs and output are whole on every rank, so the
    objective computes the same loss everywhere and needs to know nothing of it. With context parallelism each rank's
    parameter gradients then hold the part that comes from its tokens and must be summed over the group (Megatron's
    schedule multiplies the loss by the group size and DDP averages: the same).

    Source: Cosmos-Predict2 `MiniTrainDIT`, `MinimalV1LVGDiT`.
    """

    def __init__(self, config: DiTConfig, pre_process: bool = True, post_process: bool = True) -> None:
        """Builds the network on Megatron's current parallel state.

        Args:
            config: size and settings.
            pre_process: whether this pipeline stage is the first; must be True.
            post_process: whether this pipeline stage is the last; must be True.

        Raises:
            UserError: settings contradict each other.
        """
        config.check()
        super().__init__(config)
        if not (pre_process and post_process):
            raise UserError("the DiT cannot be cut into pipeline stages; use pipeline_model_parallel_size=1.")
        # Attributes that Megatron's schedules and checkpoints ask of a model.
        self.pre_process, self.post_process = pre_process, post_process
        self.share_embeddings_and_output_weights = False
        self.model_type = ModelType.encoder_or_decoder
        self.groups = groups = Groups.of(config)
        with without_initialization(config):
            self.patch_embed = PatchEmbed(config, groups)
            self.time_embed = TimeEmbed(config, groups)
            self.blocks = nn.ModuleList(DiTBlock(config, groups) for _ in range(config.num_layers))
            self.final = FinalLayer(config, groups)
        if config.perform_initialization:
            initialize(self, seed=config.init_seed or 0, zeros="adaln.up", tp_group=groups.tp)

    def set_input_tensor(self, input_tensor: Tensor | None) -> None:
        """Part of Megatron's interface for pipeline stages; there is only one."""

    def forward(
        self,
        x_B_C_T_H_W: Tensor,
        timesteps_B_T: Tensor,
        crossattn_emb_B_L_E: Tensor,
        condition_mask_B_1_T_H_W: Tensor | None = None,
        padding_mask_B_1_H_W: Tensor | None = None,
        fps_B: Tensor | None = None,
    ) -> Tensor:
        """Predicts the velocity.

        Args:
            x_B_C_T_H_W: noisy latents; H and W even.
            timesteps_B_T: noise level sigma / (1 + sigma), shape [B] or [B, T].
            crossattn_emb_B_L_E: text embedding, zero padded; every position is attended.
            condition_mask_B_1_T_H_W: 1 on frames that are given; None means none. Ignored without `video_condition`.
            padding_mask_B_1_H_W: 1 where pixels are padding, any resolution, batch B or 1; None means none.
            fps_B: frames per second; used only with `rope_enable_fps_modulation`.

        Returns:
            shape [B, C, T, H, W] in the dtype of the parameters, whole on every rank.

        Raises:
            UserError: an input has a size this network does not take.
        """
        self._check(x_B_C_T_H_W, timesteps_B_T, crossattn_emb_B_L_E)
        dtype, device = self.patch_embed.weight.dtype, x_B_C_T_H_W.device
        channels = self._channels(x_B_C_T_H_W, condition_mask_B_1_T_H_W, padding_mask_B_1_H_W).to(dtype)
        patches, grid = patchify(channels, self.config.patch_spatial)
        # The reference rounds the timestep to the network's dtype before the sinusoid.
        timesteps_T_B = timesteps_B_T.reshape(x_B_C_T_H_W.shape[0], -1).t().to(dtype)
        layout = Layout.of(patches.shape[0], grid[1] * grid[2], timesteps_T_B.shape[0], self.groups, device)
        m, silu_e = self.time_embed(timesteps_T_B)
        cos, sin = self._rotary_tables(grid, fps_B, layout)
        text_L_B_E = crossattn_emb_B_L_E.transpose(0, 1).to(dtype).contiguous()
        x_S_B_D = self.patch_embed(layout.tokens.take(patches))
        blocks = [partial(block, layout) for block in self.blocks]
        x_S_B_D = run_layers(blocks, self, x_S_B_D, silu_e, m, text_L_B_E, cos, sin)
        out_S_B_P = self.final(x_S_B_D, silu_e, m, layout)
        whole = gather_tokens(gather_tokens(out_S_B_P, self.groups.sp), self.groups.cp)
        return unpatchify(whole[: patches.shape[0]], grid, self.config.patch_spatial)

    def _check(self, x: Tensor, timesteps: Tensor, text: Tensor) -> None:
        config, p = self.config, self.config.patch_spatial
        limits = (config.max_frames, config.max_img_h, config.max_img_w)
        if x.ndim != 5 or x.shape[1] != config.in_channels:
            raise UserError(
                f"latents have shape {list(x.shape)}; this network takes [B, {config.in_channels}, T, H, W]."
            )
        B, _, T, H, W = x.shape
        if H % p or W % p or any(size > limit for size, limit in zip((T, H, W), limits, strict=True)):
            raise UserError(
                f"latent size (T, H, W) = {(T, H, W)} does not fit: H and W must be multiples of {p} and "
                f"none may exceed {limits}."
            )
        if timesteps.numel() not in (B, B * T):
            raise UserError(
                f"timesteps have shape {list(timesteps.shape)}; give one per sample [{B}] or per frame [{B}, {T}]."
            )
        if text.shape[-1] != config.crossattn_emb_channels:
            raise UserError(
                f"text embeddings are {text.shape[-1]} wide, this network takes crossattn_emb_channels="
                f"{config.crossattn_emb_channels}; use the text encoder it was trained with."
            )

    def _channels(self, x: Tensor, condition_mask: Tensor | None, padding_mask: Tensor | None) -> Tensor:
        """Appends the mask channels: [B, C, T, H, W] -> [B, C + masks, T, H, W]."""
        B, _, T, H, W = x.shape
        parts = [x]
        if self.config.video_condition:
            parts.append(x.new_zeros(B, 1, T, H, W) if condition_mask is None else condition_mask.to(x.dtype))
        if self.config.concat_padding_mask:
            mask = x.new_zeros(1, 1, H, W) if padding_mask is None else padding_mask.to(x.dtype)
            mask = mask if mask.shape[-2:] == (H, W) else F.interpolate(mask, (H, W), mode="nearest")
            parts.append(mask.unsqueeze(2).expand(B, 1, T, H, W))
        return torch.cat(parts, dim=1)

    def _rotary_tables(self, grid: tuple[int, int, int], fps: Tensor | None, layout: Layout) -> tuple[Tensor, Tensor]:
        """Cosines and sines [S, 1 or B, K/2] of the tokens that pass through attention on this rank."""
        config = self.config
        if not config.rope_enable_fps_modulation:
            fps = None
        angles = rope_angles(grid, config.head_dim, config.rope_ratios, fps=fps, device=self.patch_embed.weight.device)
        half = layout.attended.take(angles[..., : config.head_dim // 2])
        half = half.view(half.shape[0], -1, half.shape[-1])
        return half.cos(), half.sin()


def patchify(x_B_C_T_H_W: Tensor, p: int) -> tuple[Tensor, tuple[int, int, int]]:
    """Flattens p x p patches, channel slowest: returns tokens [S, B, C*p*p] and the token grid (T, H/p, W/p)."""
    B, C, T, H, W = x_B_C_T_H_W.shape
    grid = (T, H // p, W // p)
    patches = x_B_C_T_H_W.view(B, C, T, grid[1], p, grid[2], p).permute(2, 3, 5, 0, 1, 4, 6)
    return patches.reshape(math.prod(grid), B, C * p * p), grid


def unpatchify(x_S_B_P: Tensor, grid: tuple[int, int, int], p: int) -> Tensor:
    """Puts patches back, channel fastest (not the inverse order of `patchify`; both are the reference's)."""
    T, H, W = grid
    x = x_S_B_P.view(T, H, W, x_S_B_P.shape[1], p, p, -1)  # [T, H, W, B, row, column, C]
    return x.permute(3, 6, 0, 1, 4, 2, 5).reshape(x.shape[3], -1, T, H * p, W * p)

"""The networks of the Cosmos video tokenizers, under the published key names."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cosmos_nemo.tokenizers.cosmos.config import CosmosTokenizerConfig
from cosmos_nemo.tokenizers.cosmos.fsq import FiniteScalarQuantizer, Quantized
from cosmos_nemo.tokenizers.cosmos.haar import HaarPatcher, HaarUnpatcher
from cosmos_nemo.tokenizers.cosmos.layers import (
    Downsample,
    FactorizedConv,
    FrameNorm,
    Level,
    Memory,
    Middle,
    PointConv,
    Upsample,
    run_stages,
)


class Reconstruction(NamedTuple):
    """What a training step needs of a forward pass."""

    video_B_3_T_H_W: Tensor  # RGB around [-1, 1], not clamped
    latent_B_C_T_H_W: Tensor  # continuous latents, or the codes of the tokens
    indices_B_T_H_W: Tensor | None  # int32 tokens; None for a continuous tokenizer


def time_first(x_B_C_T_H_W: Tensor) -> Tensor:
    """x_B_C_T_H_W -> x_T_B_C_H_W with the channels last in memory, as the layers want it."""
    return x_B_C_T_H_W.permute(2, 0, 3, 4, 1).contiguous().permute(0, 1, 4, 2, 3)


class Encoder(nn.Module):
    """Video to z_channels at the latent resolution."""

    def __init__(self, config: CosmosTokenizerConfig) -> None:
        """Make it with torch's initial weights."""
        super().__init__()
        self.activation_checkpointing = False
        self.patcher3d = HaarPatcher(config.patch_size)
        self.conv_in = FactorizedConv(config.patch_channels, config.channels)
        self.down = nn.ModuleList()
        width = config.channels
        last = len(config.channels_mult) - 1
        for index, multiple in enumerate(config.channels_mult):
            widths = [width] + [config.channels * multiple] * config.num_res_blocks
            level = Level(widths, attention=index in config.attention_levels)
            width = widths[-1]
            if index != last:
                space, time = index < config.spatial_downsamples, index < config.temporal_downsamples
                level.downsample = Downsample(width, space=space, time=time)
            self.down.append(level)
        self.mid = Middle(width)
        self.norm_out = FrameNorm(width)
        self.conv_out = FactorizedConv(width, config.z_channels)

    def forward(self, video_B_3_T_H_W: Tensor, memory: Memory | None = None) -> Tensor:
        """Encode.

        Args:
            video_B_3_T_H_W: RGB in [-1, 1].
            memory: of the pieces before, when a video is fed piece by piece; changed in place.

        Returns: z_T_B_C_H_W.
        """
        h = self.patcher3d(video_B_3_T_H_W, is_start=not memory)
        h = self.conv_in(h, memory)
        stages: list[nn.Module] = []
        for level in self.down:
            stages += level.stages()
        h = run_stages(stages + self.mid.stages(), h, memory, recompute=self.activation_checkpointing)
        z: Tensor = self.conv_out(self.norm_out.swish(h), memory)
        return z


class Decoder(nn.Module):
    """z_channels at the latent resolution to video."""

    def __init__(self, config: CosmosTokenizerConfig) -> None:
        """Make it with torch's initial weights."""
        super().__init__()
        self.activation_checkpointing = False
        self.unpatcher3d = HaarUnpatcher(config.patch_size)
        width = config.channels * config.channels_mult[-1]
        self.conv_in = FactorizedConv(config.z_channels, width)
        self.mid = Middle(width)
        levels: list[nn.Module] = []
        for index in reversed(range(len(config.channels_mult))):
            widths = [width] + [config.channels * config.channels_mult[index]] * (config.num_res_blocks + 1)
            level = Level(widths, attention=index in config.decoder_attention_levels)
            width = widths[-1]
            if index != 0:
                space, time = config.upsamples(index)
                level.upsample = Upsample(width, space=space, time=time)
            levels.insert(0, level)
        self.up = nn.ModuleList(levels)
        self.norm_out = FrameNorm(width)
        self.conv_out = FactorizedConv(width, config.patch_channels)

    def forward(self, z_T_B_C_H_W: Tensor, memory: Memory | None = None) -> Tensor:
        """Decode.

        Args:
            z_T_B_C_H_W: what `Encoder` returns, after quantization.
            memory: see `Encoder.forward`.

        Returns: video_B_3_T_H_W around [-1, 1], not clamped.
        """
        is_start = not memory
        h = self.conv_in(z_T_B_C_H_W, memory)
        stages = self.mid.stages()
        for level in reversed(self.up):
            stages += level.stages()
        h = run_stages(stages, h, memory, recompute=self.activation_checkpointing)
        h = self.conv_out(self.norm_out.swish(h), memory)
        video: Tensor = self.unpatcher3d(h, is_start=is_start)
        return video


class CosmosTokenizerNetwork(nn.Module):
    """What continuous and discrete tokenizers share."""

    def __init__(self, config: CosmosTokenizerConfig) -> None:
        """Make it with torch's initial weights."""
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = PointConv(config.z_channels, config.embedding_dim)
        self.post_quant_conv = PointConv(config.embedding_dim, config.z_channels)

    def use_activation_checkpointing(self, enabled: bool = True) -> None:
        """Keep only the inputs of residual blocks for backward, and compute the rest again there."""
        self.encoder.activation_checkpointing = enabled
        self.decoder.activation_checkpointing = enabled

    def pre_quant(self, video_B_3_T_H_W: Tensor, memory: Memory | None = None) -> Tensor:
        """Encode to what is quantized, or to the latent where nothing is.

        Args:
            video_B_3_T_H_W: RGB in [-1, 1]; T is k * temporal_compression + 1, H and W multiples of
                spatial_compression. Of a video fed piece by piece, later pieces have T = k * temporal_compression.
            memory: of the pieces before; empty for the first; changed in place.

        Returns: z_B_C_T_H_W.

        Raises:
            UserError: the size does not fit.
        """
        if not torch.jit.is_tracing():  # sizes are symbols there
            _, _, num_frames, height, width = video_B_3_T_H_W.shape
            self.config.latent_shape(num_frames + 1 if memory else num_frames, height, width)
        z: Tensor = self.quant_conv(self.encoder(video_B_3_T_H_W, memory))
        return z.permute(1, 2, 0, 3, 4)

    def decode(self, latent_B_C_T_H_W: Tensor, memory: Memory | None = None) -> Tensor:
        """Decode latents or codes.

        Args:
            latent_B_C_T_H_W: continuous latents, or codes of tokens.
            memory: of the pieces before; see `pre_quant`.

        Returns: video_B_3_T_H_W around [-1, 1], not clamped.
        """
        video: Tensor = self.decoder(self.post_quant_conv(time_first(latent_B_C_T_H_W)), memory)
        return video


class ContinuousNetwork(CosmosTokenizerNetwork):
    """CV: the latent is what `quant_conv` gives; an autoencoder without sampling."""

    def encode(self, video_B_3_T_H_W: Tensor, memory: Memory | None = None) -> Tensor:
        """Encode to latents, shape [B, C, T', H', W']; see `pre_quant`."""
        return self.pre_quant(video_B_3_T_H_W, memory)

    def forward(self, video_B_3_T_H_W: Tensor) -> Reconstruction:
        """Encode and decode a clip."""
        latent = self.encode(video_B_3_T_H_W)
        return Reconstruction(self.decode(latent), latent, None)


class DiscreteNetwork(CosmosTokenizerNetwork):
    """DV: latents are quantized to one of `vocab_size` tokens."""

    def __init__(self, config: CosmosTokenizerConfig) -> None:
        """Make it with torch's initial weights."""
        super().__init__(config)
        self.quantizer = FiniteScalarQuantizer(config.levels)

    def encode(self, video_B_3_T_H_W: Tensor, memory: Memory | None = None) -> Quantized:
        """Encode to codes and tokens; the gradient passes straight through the rounding. See `pre_quant`."""
        quantized: Quantized = self.quantizer(self.pre_quant(video_B_3_T_H_W, memory))
        return quantized

    def decode_indices(self, indices_B_T_H_W: Tensor, memory: Memory | None = None) -> Tensor:
        """Decode tokens; see `decode`."""
        return self.decode(self.quantizer.codes(indices_B_T_H_W), memory)

    def forward(self, video_B_3_T_H_W: Tensor) -> Reconstruction:
        """Encode, quantize and decode a clip."""
        codes, indices = self.encode(video_B_3_T_H_W)
        return Reconstruction(self.decode(codes), codes, indices)


def build_network(config: CosmosTokenizerConfig) -> ContinuousNetwork | DiscreteNetwork:
    """The network of a config, with torch's initial weights (float32, on the CPU unless a default device is set).

    Its state dict has the published keys of live weights and nothing else. Call it on a clip to get a
    `Reconstruction`.
    """
    return DiscreteNetwork(config) if config.discrete else ContinuousNetwork(config)

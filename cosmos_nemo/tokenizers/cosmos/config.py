"""Sizes of the Cosmos video tokenizers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.base import latent_frames

CHUNK_FRAMES = 121
"""Frames that the continuous tokenizers of the diffusion models see at once; longer clips are cut into such chunks,
each coded alone. Source: cosmos-predict1, `pixel_chunk_duration`."""


@dataclass(kw_only=True)
class CosmosTokenizerConfig:
    """A Cosmos video tokenizer. Defaults are what the published ones share.

    Source: cosmos-predict1, `cosmos_predict1/tokenizer/networks/configs.py`.
    """

    family: ClassVar[str] = "cosmos_tokenizer"

    discrete: bool = False
    """Whether latents are quantized to tokens (DV) or stay continuous (CV)."""
    temporal_compression: int = 8
    """Pixel frames per latent frame, after the first frame, which stands alone; a power of 2."""
    spatial_compression: int = 8
    """Pixels per latent in height and width; a power of 2."""
    patch_size: int = 4
    """Pixels, and frames, per side of a Haar wavelet patch: 2 or 4. The network compresses the rest."""
    channels: int = 128
    """Base width of the network."""
    channels_mult: tuple[int, ...] = (2, 4, 4)
    """Width of each level in units of `channels`, from pixels to latents."""
    num_res_blocks: int = 2
    """Residual blocks per level of the encoder; the decoder has one more."""
    attention_levels: tuple[int, ...] = ()
    """Encoder levels with attention after every block. No published network has any beyond the middle block."""
    decoder_attention_levels: tuple[int, ...] = ()
    """The same for the decoder."""
    z_channels: int = 16
    """Channels between encoder and `quant_conv`, and between `post_quant_conv` and decoder."""
    latent_channels: int = 16
    """Channels of a continuous latent; a discrete one has as many as there are `levels`."""
    levels: tuple[int, ...] = (8, 8, 8, 5, 5, 5)
    """Steps per channel of the finite scalar quantizer (discrete only)."""

    def __post_init__(self) -> None:
        # Overrides and JSON files bring lists.
        for name in ("channels_mult", "attention_levels", "decoder_attention_levels", "levels"):
            setattr(self, name, tuple(getattr(self, name)))
        for name in ("temporal_compression", "spatial_compression", "patch_size"):
            size = getattr(self, name)
            if size < 2 or size & (size - 1):
                raise UserError(f"{name}={size} must be a power of 2, at least 2.")
        if self.patch_size > min(self.temporal_compression, self.spatial_compression):
            raise UserError(
                f"patch_size={self.patch_size} is more than temporal_compression={self.temporal_compression} or "
                f"spatial_compression={self.spatial_compression}; use a smaller patch."
            )
        if min(self.channels, self.num_res_blocks, self.z_channels, self.latent_channels, *self.channels_mult) < 1:
            raise UserError("channels, channels_mult, num_res_blocks, z_channels and latent_channels must be positive.")
        most = len(self.channels_mult) - 1
        if max(self.spatial_downsamples, self.temporal_downsamples) > most:
            raise UserError(
                f"{len(self.channels_mult)} levels (channels_mult) with patch_size={self.patch_size} compress by "
                f"{self.patch_size * 2**most} at most; use more levels, a larger patch_size or a smaller compression."
            )
        ups = [self.upsamples(level) for level in range(len(self.channels_mult))]
        if [sum(up) for up in zip(*ups, strict=True)] != [self.spatial_downsamples, self.temporal_downsamples]:
            raise UserError(
                f"the decoder of {len(self.channels_mult)} levels (channels_mult) with patch_size={self.patch_size} "
                f"cannot undo {self.temporal_compression}x{self.spatial_compression}x{self.spatial_compression}; use "
                "more levels or a larger patch_size."
            )
        if self.discrete and min(self.levels) < 2:
            raise UserError(f"levels={self.levels} must each be at least 2.")

    @property
    def spatial_downsamples(self) -> int:
        """Halvings of height and width inside the network, after patching."""
        return (self.spatial_compression // self.patch_size).bit_length() - 1

    @property
    def temporal_downsamples(self) -> int:
        """Halvings of time inside the network, after patching."""
        return (self.temporal_compression // self.patch_size).bit_length() - 1

    @property
    def patch_channels(self) -> int:
        """Channels of a patched RGB video."""
        return 3 * self.patch_size**3

    @property
    def embedding_dim(self) -> int:
        """Channels that the decoder side starts from: of the latent, or of a code."""
        return len(self.levels) if self.discrete else self.latent_channels

    @property
    def vocab_size(self) -> int:
        """Number of tokens of a discrete tokenizer."""
        return math.prod(self.levels)

    @property
    def name(self) -> str:
        """Kind and compression, e.g. "CV8x8x8"; what the published checkpoints' names end with."""
        kind = "DV" if self.discrete else "CV"
        return f"{kind}{self.temporal_compression}x{self.spatial_compression}x{self.spatial_compression}"

    def sizes(self) -> dict[str, Any]:
        """All fields, ready for JSON; equal for equal networks, whatever the class is called."""
        return asdict(self)

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Latent frames, height and width of a clip.

        Raises:
            UserError: the clip does not divide; the message names the nearest sizes that do.
        """
        compression = self.spatial_compression
        for name, size in (("height", height), ("width", width)):
            if size < 1 or size % compression:
                below = max(1, size // compression) * compression
                raise UserError(
                    f"{name}={size} does not fit the video tokenizer: use {below} or {below + compression} "
                    f"(a multiple of {compression})"
                )
        return latent_frames(num_frames, self.temporal_compression), height // compression, width // compression

    def upsamples(self, level: int) -> tuple[bool, bool]:
        """Whether the decoder doubles (space, time) after a level; level 0 is nearest to the pixels.

        The published decoders do not mirror their encoders: time is doubled from the second-deepest level on, and
        space together with it, or from the deepest level on if there are more halvings of space than of time.
        """
        depth = len(self.channels_mult) - 1 - level
        time = 0 < depth < self.temporal_downsamples + 1
        space = time or (depth < self.spatial_downsamples and self.spatial_downsamples > self.temporal_downsamples)
        return space and level > 0, time and level > 0


@dataclass(kw_only=True)
class CV8x8x8Config(CosmosTokenizerConfig):
    """Cosmos-1.0-Tokenizer-CV8x8x8 and Cosmos-Tokenize1-CV8x8x8-720p: 105.65 million parameters."""


@dataclass(kw_only=True)
class DV8x16x16Config(CosmosTokenizerConfig):
    """Cosmos-1.0-Tokenizer-DV8x16x16 and Cosmos-Tokenize1-DV8x16x16-720p: 110.90 million parameters."""

    discrete: bool = True
    spatial_compression: int = 16


@dataclass(kw_only=True)
class CV4x8x8Config(CosmosTokenizerConfig):
    """Cosmos-Tokenize1-CV4x8x8-360p: 110.21 million parameters."""

    temporal_compression: int = 4
    patch_size: int = 2


@dataclass(kw_only=True)
class DV4x8x8Config(CV4x8x8Config):
    """Cosmos-Tokenize1-DV4x8x8-360p: 112.62 million parameters."""

    discrete: bool = True
    z_channels: int = 256


@dataclass(kw_only=True)
class TinyCV4x8x8Config(CosmosTokenizerConfig):
    """CV4x8x8 with two narrow levels, as the first release had: the compression of the Wan tokenizer of Predict2."""

    temporal_compression: int = 4
    channels: int = 32
    channels_mult: tuple[int, ...] = (1, 2)
    num_res_blocks: int = 1


@dataclass(kw_only=True)
class TinyDV8x16x16Config(DV8x16x16Config):
    """DV8x16x16 in everything but width, for a CPU."""

    channels: int = 16
    channels_mult: tuple[int, ...] = (1, 2, 2)
    num_res_blocks: int = 1


PUBLISHED: dict[str, type[CosmosTokenizerConfig]] = {
    "Cosmos-1.0-Tokenizer-CV8x8x8": CV8x8x8Config,
    "Cosmos-1.0-Tokenizer-DV8x16x16": DV8x16x16Config,
    "Cosmos-Tokenize1-CV8x8x8-720p": CV8x8x8Config,
    "Cosmos-Tokenize1-DV8x16x16-720p": DV8x16x16Config,
    "Cosmos-Tokenize1-CV4x8x8-360p": CV4x8x8Config,
    "Cosmos-Tokenize1-DV4x8x8-360p": DV4x8x8Config,
}
"""Published names, which recipes take as `model.model`, and their sizes."""


def published_config(name: str) -> CosmosTokenizerConfig:
    """The size with a published name.

    Raises:
        UserError: nobody published that.
    """
    if name not in PUBLISHED:
        raise UserError(f"video tokenizer '{name}' is not one of {', '.join(PUBLISHED)}")
    return PUBLISHED[name]()

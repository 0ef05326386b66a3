"""The Cosmos tokenizers as the other rooms use them: clips to normalised latents or tokens, and back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.base import latent_frames
from cosmos_nemo.tokenizers.cosmos import pieces
from cosmos_nemo.tokenizers.cosmos.config import CHUNK_FRAMES, CosmosTokenizerConfig
from cosmos_nemo.tokenizers.cosmos.jit import MEAN_STD
from cosmos_nemo.tokenizers.cosmos.network import ContinuousNetwork, CosmosTokenizerNetwork, DiscreteNetwork
from cosmos_nemo.tokenizers.cosmos.pieces import Limits
from cosmos_nemo.tokenizers.cosmos.weights import find_jit, load_network


class Coded(NamedTuple):
    """A piece of video after encoding and decoding."""

    video_B_3_T_H_W: Tensor  # RGB in [-1, 1]
    tokens_B_T_H_W: Tensor | None  # None for a continuous tokenizer


class _CosmosTokenizer:
    """What both kinds share."""

    def __init__(
        self,
        network: CosmosTokenizerNetwork,
        *,
        path: Path,
        files: tuple[Path, ...] = (),
        limits: Limits | None = None,
    ) -> None:
        self._network = network.eval().requires_grad_(False)
        self.config: CosmosTokenizerConfig = network.config
        self.path = path
        self.files = files
        self.limits = limits or Limits()
        self.temporal_compression = self.config.temporal_compression
        self.spatial_compression = self.config.spatial_compression

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self._network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights and of the arithmetic."""
        return next(self._network.parameters()).dtype

    def latent_frames(self, num_frames: int) -> int:
        """`1 + (num_frames - 1) / temporal_compression`; see `base.latent_frames`."""
        return latent_frames(num_frames, self.temporal_compression)

    @torch.no_grad()
    def reconstruct(self, pieces_B_3_T_H_W: Iterable[Tensor]) -> Iterator[Coded]:
        """Encode and decode a video that arrives piece by piece, as if it came at once.

        Args:
            pieces_B_3_T_H_W: RGB in [-1, 1]; the first has k * temporal_compression + 1 frames, later ones have
                k * temporal_compression. All are of one size.

        Yields: for each piece its reconstruction, and its tokens if there are any.
        """
        scale = self.spatial_compression
        encode = pieces.Stream(self._network.pre_quant, self.limits, unit_in=scale, unit_out=1)
        decode = pieces.Stream(self._network.decode, self.limits, unit_in=1, unit_out=scale)
        for piece in pieces_B_3_T_H_W:
            latent, tokens = encode(piece.to(self.device, self.dtype)), None
            if isinstance(self._network, DiscreteNetwork):
                latent, tokens = self._network.quantizer(latent)
            yield Coded(decode(latent).float().clamp(-1, 1).to(piece.device), tokens)

    def _check_video(self, video_B_3_T_H_W: Tensor) -> None:
        if video_B_3_T_H_W.ndim != 5 or video_B_3_T_H_W.shape[1] != 3:
            raise UserError(f"a video is [B, 3, T, H, W], not {list(video_B_3_T_H_W.shape)}; repeat grey three times")
        self.latent_frames(video_B_3_T_H_W.shape[2])
        self.config.latent_shape(1, *video_B_3_T_H_W.shape[3:])

    def _encode(self, video_B_3_T_H_W: Tensor) -> Tensor:
        video = video_B_3_T_H_W.to(self.device, self.dtype)
        return pieces.encode(self._network.pre_quant, self.config, video, self.limits)

    def _decode(self, latent_B_C_T_H_W: Tensor) -> Tensor:
        latent = latent_B_C_T_H_W.to(self.device, self.dtype)
        return pieces.decode(self._network.decode, self.config, latent, self.limits).float().clamp(-1, 1)


class ContinuousVideoTokenizer(_CosmosTokenizer):
    """CV: encodes to normalised latents (z - mean) / std per channel and latent frame of a chunk, and back.

    Source: cosmos-predict1, `cosmos_predict1/diffusion/training/module/pretrained_vae.py`.
    """

    def __init__(
        self,
        network: ContinuousNetwork,
        *,
        path: Path,
        files: tuple[Path, ...] = (),
        mean_std: tuple[Tensor, Tensor] | None = None,
        chunk_frames: int = CHUNK_FRAMES,
        limits: Limits | None = None,
    ) -> None:
        """Wrap a network.

        Args:
            network: a trained one; moved to eval mode and frozen.
            path: where it came from.
            files: the files that it was made of.
            mean_std: statistics (mean, std) of the latents, [C, n] each, for the n first latent frames of a chunk;
                None leaves latents as they are.
            chunk_frames: longer clips are cut into chunks of this many frames.
            limits: how much is coded at once.

        Raises:
            UserError: the statistics do not fit.
        """
        super().__init__(network, path=path, files=files, limits=limits)
        self.network = network
        self.latent_channels = self.config.latent_channels
        self.chunk_frames = chunk_frames
        self.chunk_latents = latent_frames(chunk_frames, self.temporal_compression)
        self.normalised = mean_std is not None
        shape = (self.latent_channels, self.chunk_latents)
        self._mean_C_T, self._std_C_T = mean_std or (torch.zeros(shape), torch.ones(shape))
        if self._mean_C_T.shape[0] != shape[0] or self._mean_C_T.shape[1] < shape[1]:
            raise UserError(
                f"{path}: latent statistics of {list(self._mean_C_T.shape)} are too few for {shape[0]} channels and "
                f"{shape[1]} latent frames (chunks of {chunk_frames} frames)"
            )

    def to(self, device: torch.device | str) -> ContinuousVideoTokenizer:
        """Move the weights; returns self."""
        self._network.to(device)
        return self

    def without_statistics(self) -> ContinuousVideoTokenizer:
        """The same network with its latents left as they are."""
        return ContinuousVideoTokenizer(
            self.network, path=self.path, files=self.files, chunk_frames=self.chunk_frames, limits=self.limits
        )

    def latent_frames(self, num_frames: int) -> int:
        """Latent frames of whole chunks and a last one, which may be shorter."""
        chunks, rest = divmod(num_frames, self.chunk_frames)
        return chunks * self.chunk_latents + (super().latent_frames(rest) if rest or not chunks else 0)

    @torch.no_grad()
    def encode(self, video_B_3_T_H_W: Tensor) -> Tensor:
        """Encode a clip.

        Args:
            video_B_3_T_H_W: RGB in [-1, 1]; T is k * temporal_compression + 1 (any number of whole chunks before), H
                and W are multiples of spatial_compression.

        Returns: normalised latents, shape [B, C, T', H', W'], float32, on the input's device.

        Raises:
            UserError: the shape does not fit.
        """
        self._check_video(video_B_3_T_H_W)
        latents = [self._encode(chunk).float() for chunk in video_B_3_T_H_W.split(self.chunk_frames, dim=2)]
        scaled = [(z - self._statistic(self._mean_C_T, z)) / self._statistic(self._std_C_T, z) for z in latents]
        return torch.cat(scaled, dim=2).to(video_B_3_T_H_W.device)

    @torch.no_grad()
    def decode(self, latent_B_C_T_H_W: Tensor) -> Tensor:
        """Decode normalised latents.

        Args:
            latent_B_C_T_H_W: what `encode` returns.

        Returns: RGB in [-1, 1], shape [B, 3, T, H, W], float32, on the input's device.
        """
        if latent_B_C_T_H_W.ndim != 5 or latent_B_C_T_H_W.shape[1] != self.latent_channels:
            raise UserError(f"latents are [B, {self.latent_channels}, T, H, W], not {list(latent_B_C_T_H_W.shape)}")
        videos = []
        for z in latent_B_C_T_H_W.float().split(self.chunk_latents, dim=2):
            videos.append(self._decode(z * self._statistic(self._std_C_T, z) + self._statistic(self._mean_C_T, z)))
        return torch.cat(videos, dim=2).to(latent_B_C_T_H_W.device)

    def _statistic(self, statistic_C_T: Tensor, z_B_C_T_H_W: Tensor) -> Tensor:
        """Cut to a chunk's frames, [1, C, T, 1, 1]."""
        return statistic_C_T[:, : z_B_C_T_H_W.shape[2], None, None].to(z_B_C_T_H_W.device, torch.float32)[None]


class DiscreteTokenizer(_CosmosTokenizer):
    """DV: encodes to tokens and back."""

    def __init__(
        self,
        network: DiscreteNetwork,
        *,
        path: Path,
        files: tuple[Path, ...] = (),
        limits: Limits | None = None,
    ) -> None:
        """Wrap a network.

        Args:
            network: a trained one; moved to eval mode and frozen.
            path: where it came from.
            files: the files that it was made of.
            limits: how much is coded at once.
        """
        super().__init__(network, path=path, files=files, limits=limits)
        self.quantizer = network.quantizer
        self.vocab_size = self.config.vocab_size

    def to(self, device: torch.device | str) -> DiscreteTokenizer:
        """Move the weights; returns self."""
        self._network.to(device)
        return self

    @torch.no_grad()
    def encode(self, video_B_3_T_H_W: Tensor) -> Tensor:
        """Encode a clip.

        Args:
            video_B_3_T_H_W: RGB in [-1, 1]; T is k * temporal_compression + 1, H and W are multiples of
                spatial_compression.

        Returns: tokens_B_T_H_W in [0, vocab_size), int32, on the input's device.

        Raises:
            UserError: the shape does not fit.
        """
        self._check_video(video_B_3_T_H_W)
        indices: Tensor = self.quantizer(self._encode(video_B_3_T_H_W)).indices_B_T_H_W
        return indices.to(video_B_3_T_H_W.device)

    @torch.no_grad()
    def decode(self, tokens_B_T_H_W: Tensor) -> Tensor:
        """Decode tokens.

        Args:
            tokens_B_T_H_W: what `encode` returns; any integer type.

        Returns: RGB in [-1, 1], shape [B, 3, T, H, W], float32, on the input's device.

        Raises:
            UserError: not integers of that shape, or outside the vocabulary.
        """
        tokens = tokens_B_T_H_W
        if tokens.ndim != 4 or tokens.is_floating_point():
            raise UserError(f"tokens are integers [B, T, H, W], not {tokens.dtype} {list(tokens.shape)}")
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= self.vocab_size:
            raise UserError(f"tokens from {low} to {high} are outside the vocabulary of {self.vocab_size} (from 0)")
        return self._decode(self.quantizer.codes(tokens.to(self.device))).to(tokens.device)


def load_cosmos_tokenizer(
    path: str | os.PathLike[str],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    ema: bool = False,
    limits: Limits | None = None,
) -> ContinuousVideoTokenizer | DiscreteTokenizer:
    """Load a Cosmos tokenizer from local files.

    Args:
        path: see `weights.find_jit`; `mean_std.pt` beside the weights normalises the latents of a continuous one.
        device: where to put it.
        dtype: of the weights and the arithmetic; None is the file's on a GPU, and float32 on a CPU.
        ema: of a training file, take the averaged weights.
        limits: how much is coded at once.

    Raises:
        UserError: nothing usable is there, or the weights do not fit a network.
    """
    if dtype is None and torch.device(device).type == "cpu":
        dtype = torch.float32
    files = find_jit(path)
    _, network = load_network(path, ema=ema, dtype=dtype)
    place = Path(path).expanduser()
    network.to(device)
    if isinstance(network, DiscreteNetwork):
        return DiscreteTokenizer(network, path=place, files=files, limits=limits)
    statistics = files[0].parent / MEAN_STD
    mean_std = None
    if statistics.is_file():
        mean_std = read_mean_std(statistics, latent_channels=network.config.latent_channels)
        files = (*files, statistics)
    return ContinuousVideoTokenizer(network, path=place, files=files, mean_std=mean_std, limits=limits)


def read_mean_std(file: Path, *, latent_channels: int) -> tuple[Tensor, Tensor]:
    """Read latent statistics: a pair (mean, std) of tensors that are [C, n] in some view.

    Raises:
        UserError: they are not.
    """
    try:
        mean, std = torch.load(file, map_location="cpu", weights_only=True)
        mean, std = (t.float().reshape(latent_channels, -1) for t in (mean, std))
    except Exception as error:  # torch raises runtime, unpickling, zip and OS errors; the content may be anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{file} is not a pair (mean, std) for {latent_channels} channels: {reason}") from error
    if mean.shape != std.shape or not bool((std > 0).all()) or not bool(torch.isfinite(mean).all()):
        raise UserError(f"{file} holds no usable statistics: std must be positive, mean finite, both of one shape")
    return mean, std


@torch.no_grad()
def latent_statistics(tokenizer: ContinuousVideoTokenizer, clips: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of latents per channel and latent frame, for `mean_std.pt`.

    Args:
        tokenizer: one without statistics.
        clips: video_B_3_T_H_W each, of any lengths up to a chunk.

    Returns: (mean, std), [C, latent frames of a chunk] each; frames that no clip reaches get what all frames but the
        first have together.

    Raises:
        UserError: no clips, or the tokenizer is normalised already.
    """
    if tokenizer.normalised:
        raise UserError(f"{tokenizer.path} has latent statistics already")
    count = torch.zeros(tokenizer.chunk_latents, dtype=torch.float64)
    sums = torch.zeros(2, tokenizer.latent_channels, tokenizer.chunk_latents, dtype=torch.float64)
    for clip in clips:
        z = tokenizer.encode(clip).double().cpu()
        frames = z.shape[2]
        count[:frames] += z[:, 0, 0].numel()
        sums[0, :, :frames] += z.sum(dim=(0, 3, 4))
        sums[1, :, :frames] += z.square().sum(dim=(0, 3, 4))
    if not count[0]:
        raise UserError("latent statistics need at least one clip")
    later = slice(1, None) if count[1:].any() else slice(None)
    rest, rest_count = sums[:, :, later].sum(dim=2, keepdim=True), count[later].sum()
    seen = count > 0
    mean, square = torch.where(seen, sums / count.clamp(min=1), rest / rest_count)
    return mean.float(), (square - mean.square()).clamp(min=1e-6).sqrt().float()

"""Writes a network as the three published TorchScript files."""

from __future__ import annotations

import os
import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cosmos_nemo.files import staged, write_json
from cosmos_nemo.tokenizers.cosmos.config import CosmosTokenizerConfig
from cosmos_nemo.tokenizers.cosmos.fsq import FiniteScalarQuantizer
from cosmos_nemo.tokenizers.cosmos.network import ContinuousNetwork, DiscreteNetwork, time_first
from cosmos_nemo.tokenizers.cosmos.weights import AUTOENCODER, DECODER, ENCODER

CONFIG = "config.json"
MEAN_STD = "mean_std.pt"


def export_jit(
    network: ContinuousNetwork | DiscreteNetwork,
    config: CosmosTokenizerConfig,
    folder: str | os.PathLike[str],
    *,
    dtype: torch.dtype | None = None,
    mean_std: tuple[Tensor, Tensor] | None = None,
) -> tuple[Path, ...]:
    """Write `encoder.jit`, `decoder.jit`, `autoencoder.jit` and `config.json`, each complete or not at all.

    Signatures (videos RGB around [-1, 1], [B, 3, T, H, W]; any legal size, whatever the traced one):
        encoder.jit: CV video -> (latent, (0, 0)); DV video -> (indices int32, codes, loss 0).
        decoder.jit: CV latent -> video; DV indices -> video.
        autoencoder.jit: CV video -> (video, (0, 0), latent); DV video -> (video, loss 0, indices).

    Args:
        network: what to write; left as it is.
        config: its config.
        folder: made if absent; files in it are replaced.
        dtype: of the written weights; None keeps the network's. The published files are bfloat16.
        mean_std: latent statistics (mean, std) of a continuous tokenizer, shape [C, n] each; also written then, as
            `mean_std.pt`.

    Returns: the files.
    Source: cosmos-predict1, `cosmos_predict1/tokenizer/training/checkpointer.py`.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    network = deepcopy(network).to("cpu", dtype).eval().requires_grad_(False)
    network.use_activation_checkpointing(False)
    size = 2 * config.spatial_compression
    clip = torch.zeros(1, 3, 1 + 2 * config.temporal_compression, size, size, dtype=next(network.parameters()).dtype)
    files = []
    for name, (module, example) in _published_modules(network, clip).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sizes that become constants are warned of; tests run other sizes
            traced = torch.jit.trace(module, example, check_trace=False)
        with staged(place / name, overwrite=True) as temporary:
            torch.jit.save(traced, str(temporary))
        files.append(place / name)
    description = {"architectures": ["CosmosTokenizer"], "name": config.name, **config.sizes()}
    write_json(place / CONFIG, description)
    files.append(place / CONFIG)
    if mean_std is not None:
        files.append(write_mean_std(place, mean_std))
    return tuple(files)


def write_mean_std(folder: Path, mean_std: tuple[Tensor, Tensor]) -> Path:
    """Write latent statistics beside a tokenizer's weights, in bfloat16 like the published ones.

    Args:
        folder: of the tokenizer.
        mean_std: (mean, std), shape [C, n] each; see `tokenizer.latent_statistics`.
    """
    pair = tuple(statistic.detach().cpu().to(torch.bfloat16) for statistic in mean_std)
    with staged(folder / MEAN_STD, overwrite=True) as temporary:
        torch.save(pair, temporary)
    return folder / MEAN_STD


def _published_modules(
    network: ContinuousNetwork | DiscreteNetwork, clip: Tensor
) -> dict[str, tuple[nn.Module, Tensor]]:
    """File name -> module with the file's keys and signature, and an example of its input."""
    encoder = _EncoderFile(network)
    return {
        ENCODER: (encoder, clip),
        DECODER: (_DecoderFile(network), encoder(clip)[0]),
        AUTOENCODER: (_AutoencoderFile(network), clip),
    }


class _EncoderFile(nn.Module):
    """Video -> latent and two zeros, or tokens, their codes and a zero."""

    def __init__(self, network: ContinuousNetwork | DiscreteNetwork) -> None:
        super().__init__()
        self.encoder = network.encoder
        self.quant_conv = network.quant_conv
        if isinstance(network, DiscreteNetwork):
            self.quantizer = network.quantizer

    def forward(self, video_B_3_T_H_W: Tensor) -> tuple[Any, ...]:
        z = self.quant_conv(self.encoder(video_B_3_T_H_W)).permute(1, 2, 0, 3, 4).contiguous()
        if not hasattr(self, "quantizer"):
            return z, (torch.zeros(1), torch.zeros(1))  # stands for the mean and log variance of a VAE
        codes, indices = self.quantizer(z)
        # Finite scalar quantization has no loss; upstream returns zeros of this shape.
        return indices, codes, torch.zeros_like(codes[:, :1, :1, :1])


class _DecoderFile(nn.Module):
    """Latent or tokens -> video."""

    def __init__(self, network: ContinuousNetwork | DiscreteNetwork) -> None:
        super().__init__()
        if isinstance(network, DiscreteNetwork):
            self.inv_quant = _InverseQuantizer(network.quantizer)
        self.post_quant_conv = network.post_quant_conv
        self.decoder = network.decoder

    def forward(self, latent: Tensor) -> Tensor:
        if hasattr(self, "inv_quant"):
            latent = self.inv_quant(latent)
        video: Tensor = self.decoder(self.post_quant_conv(time_first(latent)))
        return video.contiguous()


class _AutoencoderFile(nn.Module):
    """Video -> reconstruction and what lies between."""

    def __init__(self, network: ContinuousNetwork | DiscreteNetwork) -> None:
        super().__init__()
        for name, module in network.named_children():
            self.add_module(name, module)
        # Kept out of the file's keys, which have no prefix.
        object.__setattr__(self, "encode", _EncoderFile(network))
        object.__setattr__(self, "decode", network.decode)

    def forward(self, video_B_3_T_H_W: Tensor) -> tuple[Any, ...]:
        first, second, *loss = self.encode(video_B_3_T_H_W)
        if loss:
            return self.decode(second).contiguous(), loss[0], first
        return self.decode(first).contiguous(), second, first


class _InverseQuantizer(nn.Module):
    """Tokens -> codes; the published decoder has the quantizer under `inv_quant`."""

    def __init__(self, quantizer: FiniteScalarQuantizer) -> None:
        super().__init__()
        self.quantizer = quantizer

    def forward(self, indices_B_T_H_W: Tensor) -> Tensor:
        return self.quantizer.codes(indices_B_T_H_W)

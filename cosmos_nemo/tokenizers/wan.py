"""The Wan 2.1 video autoencoder, which Cosmos-Predict2 uses as its tokenizer.

The network is diffusers' `AutoencoderKLWan`. It encodes and decodes in chunks of four frames with a cache, so that
its memory does not grow with the length of the clip.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.base import latent_frames

WEIGHT_SUFFIXES = (".pth", ".pt", ".safetensors")

# Frames above this many pixels are encoded in overlapping tiles. All published sizes (at most 1024x1024) stay below
# it and are encoded whole, as the models were trained.
TILE_ABOVE_PIXELS = 1024 * 1024


class WanTokenizer:
    """Encodes to normalised latents `(z - mean_c) / std_c` per channel, and back.

    Source: Cosmos-Predict2, `cosmos_predict2/tokenizers/tokenizer.py`.
    """

    def __init__(self, model: Any, *, path: Path, files: tuple[Path, ...]) -> None:
        """Wrap a network.

        Args:
            model: an `AutoencoderKLWan`; its config holds `latents_mean` and `latents_std`.
            path: where it came from.
            files: the files that it was made of.
        """
        self.model = model.eval().requires_grad_(False)
        self.path = path
        self.files = files
        self.latent_channels: int = model.config.z_dim
        self.temporal_compression: int = model.config.scale_factor_temporal
        self.spatial_compression: int = model.config.scale_factor_spatial
        shape = (1, self.latent_channels, 1, 1, 1)
        self.mean_1_C_1_1_1 = torch.tensor(model.config.latents_mean, dtype=torch.float32).view(shape)
        self.std_1_C_1_1_1 = torch.tensor(model.config.latents_std, dtype=torch.float32).view(shape)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def to(self, device: torch.device | str) -> "WanTokenizer":
        """Move the weights; returns self."""
        self.model.to(device)
        return self

    def latent_frames(self, num_frames: int) -> int:
        """`1 + (num_frames - 1) / 4`; see `base.latent_frames`."""
        return latent_frames(num_frames, self.temporal_compression)

    @torch.no_grad()
    def encode(self, video_B_3_T_H_W: Tensor) -> Tensor:
        """Encode a clip to the mean of its posterior, normalised.

        Args:
            video_B_3_T_H_W: RGB in [-1, 1]; T is 4k+1, H and W are multiples of 8.

        Returns: shape [B, C, (T-1)/4+1, H/8, W/8], float32, on the input's device.

        Raises:
            UserError: T, H or W do not fit.
        """
        _, _, num_frames, height, width = video_B_3_T_H_W.shape
        self.latent_frames(num_frames)
        if height % self.spatial_compression or width % self.spatial_compression:
            raise UserError(f"size {height}x{width} (height x width) must be a multiple of {self.spatial_compression}")
        self._choose_tiling(height, width)
        parameter = next(self.model.parameters())
        posterior = self.model.encode(video_B_3_T_H_W.to(parameter.device, parameter.dtype)).latent_dist
        latent = posterior.mode().float().to(video_B_3_T_H_W.device)
        return (latent - self.mean_1_C_1_1_1.to(latent.device)) / self.std_1_C_1_1_1.to(latent.device)

    @torch.no_grad()
    def decode(self, latent_B_C_T_H_W: Tensor) -> Tensor:
        """Decode normalised latents.

        Args:
            latent_B_C_T_H_W: what `encode` returns.

        Returns: RGB in [-1, 1], shape [B, 3, 4(T-1)+1, 8H, 8W], float32, on the input's device.
        """
        height, width = (n * self.spatial_compression for n in latent_B_C_T_H_W.shape[-2:])
        self._choose_tiling(height, width)
        device = latent_B_C_T_H_W.device
        latent = latent_B_C_T_H_W.float() * self.std_1_C_1_1_1.to(device) + self.mean_1_C_1_1_1.to(device)
        parameter = next(self.model.parameters())
        video = self.model.decode(latent.to(parameter.device, parameter.dtype)).sample
        return video.float().clamp(-1, 1).to(device)

    def _choose_tiling(self, height: int, width: int) -> None:
        self.model.use_tiling = height * width > TILE_ABOVE_PIXELS


def find_wan(path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """The files that `load_wan` would read.

    Raises:
        UserError: there are none.
    """
    place = Path(path).expanduser()
    folder = next((f for f in (place, place / "vae") if (f / "config.json").is_file()), None)
    if folder is not None:
        return tuple(sorted(f for f in folder.iterdir() if f.suffix in (".json", ".safetensors", ".bin")))
    for file in (place, place / "tokenizer.pth", place / "tokenizer" / "tokenizer.pth"):
        if file.is_file() and file.suffix in WEIGHT_SUFFIXES:
            return (file,)
    raise UserError(
        f"no Wan video tokenizer at {place}: give a diffusers folder (config.json and *.safetensors, or with vae/), "
        "or the published tokenizer.pth"
    )


def load_wan(
    path: str | os.PathLike[str], *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> WanTokenizer:
    """Load the tokenizer from local files.

    Args:
        path: a diffusers folder of the VAE, a pipeline folder with it under `vae/`, the published `tokenizer.pth`
            (also as safetensors) under the original Wan names, or a folder that holds that file.
        device: where to put it.
        dtype: of the weights.

    Raises:
        UserError: nothing usable is there, or the weights do not fit the network.
    """
    files = find_wan(path)
    original = len(files) == 1 and files[0].suffix in WEIGHT_SUFFIXES
    model = _from_original(files[0], dtype) if original else _from_folder(files[0].parent, dtype)
    return WanTokenizer(model, path=Path(path).expanduser(), files=files).to(device)


def _from_folder(folder: Path, dtype: torch.dtype) -> Any:
    from diffusers import AutoencoderKLWan

    try:
        model, info = AutoencoderKLWan.from_pretrained(
            str(folder), torch_dtype=dtype, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise UserError(f"the video tokenizer in {folder} cannot be loaded: {_first_line(error)}") from error
    _strict(folder, info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"])
    return model


def _from_original(file: Path, dtype: torch.dtype) -> Any:
    """The published single file. The converter of diffusers knows the layout of two residual blocks per stage."""
    from diffusers import AutoencoderKLWan
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    state = _read_state(file)
    try:
        base_dim, z_dim = state["encoder.conv1.weight"].shape[0], state["conv2.weight"].shape[0]
    except (KeyError, IndexError) as error:
        raise UserError(f"{file} does not hold a Wan 2.1 VAE under its original names: {error} is missing") from error
    model: Any = AutoencoderKLWan(base_dim=base_dim, z_dim=z_dim)
    converted = convert_wan_vae_to_diffusers(dict(state))
    wanted = model.state_dict()
    mismatched = [name for name in wanted if name in converted and converted[name].shape != wanted[name].shape]
    _strict(file, wanted.keys() - converted.keys(), converted.keys() - wanted.keys(), mismatched)
    model.load_state_dict(converted)
    return model.to(dtype)


def _read_state(file: Path) -> Mapping[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch.load raises pickle, zip, OS and runtime errors
        raise UserError(f"{file} cannot be read as weights: {_first_line(error)}") from error
    for wrapper in ("state_dict", "model"):
        if wrapper in state and isinstance(state[wrapper], Mapping):
            state = state[wrapper]
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _strict(where: Path, missing: Any, unexpected: Any, mismatched: Any) -> None:
    problems = [
        f"{len(names)} {kind} ({', '.join(sorted(str(n) for n in names)[:3])}, ...)"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", mismatched))
        if names
    ]
    if problems:
        raise UserError(f"the weights in {where} do not fit the Wan VAE: {'; '.join(problems)}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

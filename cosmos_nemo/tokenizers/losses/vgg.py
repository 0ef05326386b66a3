"""The feature stack of VGG16, for the perceptual loss.

Plain convolutions that load torchvision's published file; torchvision itself does not import beside every torch.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cosmos_nemo.errors import UserError

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the convolutions between poolings; features are taken at the end of each stage."""

SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
"""Per colour, (v - shift) / scale turns RGB in [-1, 1] into what the network was trained on."""


class VGG16Features(nn.Module):
    """VGG16 without its classifier, frozen."""

    def __init__(self) -> None:
        """Make it with arbitrary weights, under torchvision's names `features.N`, N counting ReLUs and poolings too."""
        super().__init__()
        self.activation_checkpointing = False
        self.features = nn.ModuleDict()
        channels, index = 3, 0
        self._stages: list[list[str]] = []
        for widths in STAGES:
            self._stages.append([])
            for width in widths:
                self.features[str(index)] = nn.Conv2d(channels, width, 3, padding=1)
                self._stages[-1].append(str(index))
                channels, index = width, index + 2
            index += 1  # the pooling
        self.requires_grad_(False)

    def forward(self, frames_N_3_H_W: Tensor) -> list[Tensor]:
        """Compute features.

        Args:
            frames_N_3_H_W: RGB in [-1, 1]; H and W at least 16.

        Returns: what follows relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3, [N, C_k, H / 2^k, W / 2^k] each.
        """
        shift, scale = (frames_N_3_H_W.new_tensor(v).view(3, 1, 1) for v in (SHIFT, SCALE))
        x = (frames_N_3_H_W - shift) / scale
        features = []
        for number in range(len(STAGES)):
            if self.activation_checkpointing and torch.is_grad_enabled():
                x = checkpoint(self._stage, x, number, use_reentrant=False)
            else:
                x = self._stage(x, number)
            features.append(x)
        return features

    def _stage(self, x: Tensor, number: int) -> Tensor:
        """A stage's pooling (but the first's), convolutions and ReLUs."""
        x = F.max_pool2d(x, 2) if number else x
        for name in self._stages[number]:
            x = F.relu(self.features[name](x))
        return x


def load_vgg16(
    path: str | os.PathLike[str], *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> VGG16Features:
    """Load torchvision's `vgg16-397923af.pth` (or a file of the same layout).

    Args:
        path: the file; its classifier is left out.
        device: where to put it.
        dtype: of the weights.

    Raises:
        UserError: no such file, or not VGG16.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"no VGG16 weights at {file}: give torchvision's vgg16-397923af.pth")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        state = {name: tensor for name, tensor in content.items() if not name.startswith("classifier.")}
    except Exception as error:  # torch raises runtime, unpickling, zip and OS errors
        raise UserError(f"{file} cannot be read as weights: {str(error).splitlines()[0]}") from error
    network = VGG16Features()
    wanted = {name: tensor.shape for name, tensor in network.state_dict().items()}
    if wanted != {name: getattr(tensor, "shape", None) for name, tensor in state.items()}:
        raise UserError(f"{file} is not VGG16 in torchvision's layout (features.0.weight ... features.28.bias)")
    network.load_state_dict(state)
    return network.to(device, dtype)

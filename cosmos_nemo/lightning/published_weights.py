"""Starting from published weights or from another run, for families whose weights have a table of names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.files import file_sha256
from cosmos_nemo.lightning.module import CosmosModule


class FromPublished(CosmosModule):
    """A family that starts from a published checkpoint (file or folder) or a run folder of this project.

    A subclass sets ``use_ema``: take the averaged weights.
    """

    use_ema: bool

    def check_weights(self) -> None:
        """See `CosmosModule`."""
        from cosmos_nemo.checkpoints import megatron, published, shapes
        from cosmos_nemo.runs import layout

        path, name = self.weights_path, f"model.{self.weights_field}"
        if not path:
            return
        if not Path(path).exists():
            raise UserError(f"{name}={path} does not exist; give a published checkpoint or a run folder.")
        if layout.is_training_checkpoint(path):
            saved = megatron.run_architecture(layout.find_checkpoint(path))
        else:
            saved = shapes.published_architecture(published.read_published(path, ema=self.use_ema))
        different = self.architecture.differences(saved)
        if different:
            raise UserError(f"{name}={path} is of another model: {different}. Choose the recipe of its size.")

    def load_weights(self, network: Any) -> str:
        """See `CosmosModule`; the description has path, number of tensors, SHA-256."""
        from cosmos_nemo.checkpoints import convert, megatron, published
        from cosmos_nemo.runs import layout

        path = self.weights_path
        assert path
        if layout.is_training_checkpoint(path):
            info = megatron.load_training_checkpoint(network, path, ema=self.use_ema)
            return f"{info.path} (step {info.step})"
        state = published.read_published(path, ema=self.use_ema)
        convert.load_published_into(network, state)
        return f"{path}: {len(state)} tensors{file_digest(Path(path))}"


def file_digest(path: Path) -> str:
    """``, sha256 ...`` of a single file, on rank 0 only: reading 28 GB twice takes a minute."""
    if path.is_dir() or torch.distributed.get_rank() != 0:
        return ""
    return f", sha256 {file_sha256(path)}"

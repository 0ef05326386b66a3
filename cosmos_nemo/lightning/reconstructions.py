"""What a validation of a tokenizer says about its reconstructions: codebook, rFVD, a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from megatron.core import parallel_state
from torch import Tensor

from cosmos_nemo.data.batch import VideoBatch
from cosmos_nemo.tokenizers.losses import metrics

PICTURES_DIR = "validation"
"""Below the run folder: what validation draws."""


class Reconstructions:
    """Collects what is seen in a validation, on every rank.

    Args:
        vocab_size: of a discrete tokenizer; not used otherwise.
        i3d_path: feature network of rFVD; None leaves it out.
    """

    def __init__(self, vocab_size: int, i3d_path: str | None) -> None:
        self.vocab_size = vocab_size
        self.i3d_path = i3d_path
        self._i3d: Any = None
        self._forget()

    def _forget(self) -> None:
        self._counts: Tensor | None = None  # of tokens, int64 [vocab_size]
        self._distance: metrics.FrechetVideoDistance | None = None
        self._clip: tuple[Tensor, Tensor, float] | None = None  # the first, its reconstruction, frames per second

    def note(self, batch: VideoBatch, video: Tensor, reconstruction: Tensor, indices: Tensor | None) -> None:
        """Count tokens, take features, and keep the first clip.

        Args:
            batch: of validation.
            video: its pixels, [B, 3, T, H, W] in [-1, 1].
            reconstruction: the same.
            indices: token ids of a discrete tokenizer.
        """
        if indices is not None:
            counts = metrics.count_tokens(indices, self.vocab_size)
            self._counts = counts if self._counts is None else self._counts + counts
        if self._clip is None:
            pair = (batch.video_B_3_T_H_W[0].cpu(), reconstruction[:1].detach().cpu())
            self._clip = (*pair, float(batch.fps_B[0]) or 1.0)
        if self.i3d_path:
            if self._distance is None:
                self._i3d = self._i3d or metrics.load_i3d(self.i3d_path, device=video.device)
                self._distance = metrics.FrechetVideoDistance(self._i3d)
            self._distance.update(video, reconstruction)

    def finish(self, run_dir: Path, step: int) -> dict[str, Any]:
        """Return the numbers over all ranks and the path of rank 0's picture, and start anew."""
        row: dict[str, Any] = {}
        if self._counts is not None:
            torch.distributed.all_reduce(self._counts, group=parallel_state.get_data_parallel_group())
            use = metrics.codebook_use(self._counts)
            row = {"val_code_entropy": use.entropy, "val_code_perplexity": use.perplexity, "val_dead_codes": use.dead}
        if self._distance is not None:
            row |= _distance_over_ranks(self._distance)
        if torch.distributed.get_rank() == 0 and self._clip is not None:
            name = f"{PICTURES_DIR}/step_{step:09d}.png"
            _draw(run_dir / name, *self._clip)
            row["val_picture"] = name
        self._forget()
        return row


def _distance_over_ranks(distance: metrics.FrechetVideoDistance) -> dict[str, float]:
    group = parallel_state.get_data_parallel_group()
    parts: list[Any] = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(parts, distance.features(), group=group)
    clips, reconstructions = (torch.cat(side) for side in zip(*parts, strict=True))
    if len(clips) < 2:  # one clip has no covariance
        return {}
    return {"val_rfvd": metrics.frechet_distance(clips, reconstructions)}


def _draw(path: Path, video_3_T_H_W: Tensor, reconstruction_1_3_T_H_W: Tensor, fps: float) -> None:
    """Draw a clip above its reconstruction."""
    from cosmos_nemo.media.strip import StripRow, write_strip

    rows = [
        StripRow(label="original", frames_T_3_H_W=video_3_T_H_W.transpose(0, 1)),
        StripRow(label="reconstruction", frames_T_3_H_W=metrics.to_uint8(reconstruction_1_3_T_H_W)),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_strip(path, rows, num_frames=video_3_T_H_W.shape[1], fps=fps, columns=6)

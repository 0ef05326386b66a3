"""Where upstream's tools leave weights: a published folder, a post-training run's folder, tensor-parallel files.

    Cosmos-Predict1-4B/model.pt                           published
    Cosmos-Predict1-4B/model_model_mp_{rank}.pt           the same, cut for tensor parallelism by upstream's sharder
    PROJECT/GROUP/NAME/checkpoints/latest_checkpoint.txt  one line: iter_{N:09d}.pt
    PROJECT/GROUP/NAME/checkpoints/iter_{N:09d}.pt        weights and trainer state; at TP > 1 the latter, and
    PROJECT/GROUP/NAME/checkpoints/iter_{N:09d}_model_mp_{rank}.pt

Source: cosmos-predict1 `cosmos_predict1/autoregressive/checkpointer/` and
`scripts/shard_autoregressive_base_checkpoints.py`.
"""

from __future__ import annotations

import re
from pathlib import Path

from cosmos_nemo.runs.layout import CHECKPOINTS_DIR, LATEST_FILE

_SHARD = re.compile(r"(?P<base>.+)_model_mp_(?P<rank>\d+)")
_ITERATION_FILE = re.compile(r"iter_\d+\.pt")
_MODEL_FILE = "model.pt"


def shard_path(whole: Path, rank: int) -> Path:
    """Name of the file that holds tensor-parallel rank `rank`'s part of the file `whole` (`X.pt`)."""
    return whole.with_name(f"{whole.stem}_model_mp_{rank}{whole.suffix}")


def whole_path(path: Path) -> Path:
    """`X.pt` for `X_model_mp_{rank}.pt`; any other path as it is."""
    match = _SHARD.fullmatch(path.stem)
    return path.with_name(f"{match['base']}{path.suffix}") if match else path


def shard_files(whole: Path) -> dict[int, Path]:
    """The tensor-parallel files that lie beside `whole` (which need not exist itself), by rank."""
    found = {}
    for file in whole.parent.glob(f"*_model_mp_*{whole.suffix}"):
        match = _SHARD.fullmatch(file.stem)
        if match and match["base"] == whole.stem:
            found[int(match["rank"])] = file
    return dict(sorted(found.items()))


def is_iteration_file(path: Path) -> bool:
    """Whether a file has the name of an iteration of post-training, `iter_{N:09d}.pt`."""
    return _ITERATION_FILE.fullmatch(path.name) is not None


def weights_in(path: Path) -> Path:
    """The file that a folder of upstream's stands for; any other path as it is.

    Args:
        path: a post-training run's folder or its `checkpoints` (the newest iteration is meant), or a published folder
            with `model.pt` or its tensor-parallel files.
    """
    if not path.is_dir():
        return path
    folder = path / CHECKPOINTS_DIR if (path / CHECKPOINTS_DIR).is_dir() else path
    latest = folder / LATEST_FILE
    if latest.is_file() and _ITERATION_FILE.fullmatch(name := latest.read_text().strip()):
        return folder / name
    iterations = {whole_path(file).name for file in folder.glob("iter_*.pt")}
    if newest := max(filter(_ITERATION_FILE.fullmatch, iterations), default=None):
        return folder / newest
    whole = path / _MODEL_FILE
    return whole if whole.is_file() or shard_files(whole) else path

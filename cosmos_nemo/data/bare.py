"""Folders of tars that Energon has indexed and that have no manifest: what the published guides make.

Such a folder holds video files and nothing else, ``000000.tar`` with ``1.mp4 2.mp4 ...``; only what reads raw video can
use it.
"""

import json
from pathlib import Path

import yaml

from cosmos_nemo.data.manifest import MANIFEST_NAME
from cosmos_nemo.errors import UserError

INDEX = ".nv-meta"


def is_bare(folder: Path) -> bool:
    """Whether a folder holds tars that nobody will write a manifest for; `data_prep` does when it finishes."""
    unfinished = (folder / ".prep").exists()
    return not unfinished and not (folder / MANIFEST_NAME).exists() and any(folder.glob("**/*.tar"))


def check_index(folder: Path) -> None:
    """Check that Energon can read a bare folder.

    Raises:
        UserError: it has no index, or one for another kind of reading; the message has the command that makes it.
    """
    command = (
        f"energon prepare {folder} --non-interactive --sample-type CrudeWebdataset --split-ratio 99,1,0 --num-workers 8"
    )
    if not (folder / INDEX / ".info.json").is_file():
        raise UserError(f"{folder} holds tars without an index; make it with `{command}`")
    config = folder / INDEX / "dataset.yaml"
    kind = (yaml.safe_load(config.read_text()) or {}).get("__class__") if config.is_file() else None
    if kind != "CrudeWebdataset":
        raise UserError(
            f"{folder} is indexed as {kind or 'nothing in particular'}, not as files; delete {folder / INDEX} and run "
            f"`{command}`"
        )
    for name in shard_counts(folder):
        if not (folder / name).is_file():
            raise UserError(
                f"shard {folder / name} is missing; copy it again, or delete {folder / INDEX} and `{command}`"
            )


def shard_counts(folder: Path) -> dict[str, int]:
    """Samples of every tar, by name."""
    counts: dict[str, int] = json.loads((folder / INDEX / ".info.json").read_text())["shard_counts"]
    return counts


def count_samples(folder: Path, split: str) -> int:
    """Samples of the "train" or "val" split of an indexed folder; 0 if there is no such split."""
    from megatron.energon.epathlib import EPath
    from megatron.energon.flavors.webdataset.empty_dataset_error import EmptyDatasetError
    from megatron.energon.flavors.webdataset.metadata import WebdatasetMeta

    try:
        meta = WebdatasetMeta.from_config(EPath(str(folder)), split_part=split)
    except (EmptyDatasetError, AssertionError):  # an assertion where there is no such split
        return 0
    return sum(shard.count for shard in meta.shards)

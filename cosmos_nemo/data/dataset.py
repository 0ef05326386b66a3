"""A data set as a model sees it, and what lies in a folder of shards."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from cosmos_nemo.data import bare
from cosmos_nemo.data.blend import open_blend, read_blend
from cosmos_nemo.data.manifest import MANIFEST_NAME, EncoderRef, Manifest, check_shards, read_manifest
from cosmos_nemo.data.window import ClipWindow
from cosmos_nemo.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The samples at a path as they reach a model: of video files, the clips, or the latents or token ids of those.

    What does not apply, or is not known before a sample is read, is None.
    """

    field: str
    """Name of the setting that holds the path, for messages."""
    path: str
    """A folder of shards, or the file of a blend."""
    num_train: int
    """Samples of the train split."""
    num_val: int
    """Samples of the val split."""
    kind: str
    """latent, tokens or video: what the samples are."""
    task: str | None = None
    """What they were prepared for; see `manifest.TASKS`."""
    encoded_in_training: bool = False
    """Whether latents or token ids are made of video files while training."""
    num_frames: int | None = None
    """Pixel frames of a sample."""
    height: int | None = None
    """Pixels."""
    width: int | None = None
    """Pixels."""
    fps: float | None = None
    """Frames per second of all samples."""
    latent_shape: tuple[int, int, int, int] | None = None
    """(C, T, H, W)."""
    token_shape: tuple[int, int, int] | None = None
    """(T, H, W)."""
    vocab_size: int | None = None
    """Token ids are below it."""
    text_width: int | None = None
    """E of the text embeddings."""
    text_length: int | None = None
    """Tokens that texts are padded to; None where the model reads no text."""
    window: ClipWindow | None = None
    """What is cut out of video files."""
    window_field: str = "data.window"
    """Name of the setting that holds the window, for messages."""
    video_tokenizer: EncoderRef | None = None
    """What made latents or token ids."""
    text_encoder: EncoderRef | None = None
    """What made the text embeddings, if that is known."""

    @property
    def clip_shape(self) -> tuple[int, int, int]:
        """Frames, height and width of a sample, in pixels; of video files, which have been cut."""
        assert self.num_frames is not None and self.height is not None and self.width is not None
        return self.num_frames, self.height, self.width

    def words(self) -> str:
        """Return a sample in a few words."""
        size = f"{self.num_frames} frames {self.height}x{self.width}"
        if self.kind == "video":
            return f"{size} cut out of video files"
        name, shape = ("tokens", self.token_shape) if self.token_shape else ("latent", (self.latent_shape or ())[1:])
        made = ", made of video files as they are read" if self.encoded_in_training else ""
        return f"{size} ({name} {'x'.join(map(str, shape))}{made})"

    def require_text(self, width: int) -> None:
        """Raise unless the samples have texts for a network.

        Args:
            width: of the embeddings that the network reads.

        Raises:
            UserError: there are none, or of another width, or nothing says what they are padded to.
        """
        if self.text_width != width:
            text = f"text embeddings of width {self.text_width}" if self.text_width else "no text"
            raise UserError(
                f"{self.field} has {text}, the network reads text of width model.config.crossattn_emb_channels="
                f"{width}; prepare the shards with `--text-encoder` and the network's text encoder."
            )
        if self.text_length is None:
            raise UserError("data.text_length is not set, and this network reads text; 512 in the published models.")

    def facts(self) -> dict[str, Any]:
        """Return what generating and exporting must know about the training data, by the names of `runs.RunData`."""
        names = (
            *("num_frames", "height", "width", "fps", "latent_shape", "token_shape"),
            *("text_width", "text_length", "video_tokenizer", "text_encoder"),
        )
        window = None if self.window is None else asdict(self.window)
        return {name: getattr(self, name) for name in names} | {"window": window}


def open_dataset(path: str | os.PathLike[str], *, field: str = "data.path") -> Dataset:
    """Look at what lies at `path`, before anything expensive starts.

    Args:
        path: see `open_manifest`.
        field: name of the setting that holds it.

    Raises:
        UserError: as `open_manifest`.
    """
    manifest = open_manifest(path)
    counts = {f"num_{split}": count_samples(path, manifest, split) for split in ("train", "val")}
    place: dict[str, Any] = {"field": field, "path": str(path), **counts}
    if manifest is None:
        return Dataset(kind="video", **place)
    same = {f.name for f in fields(Dataset)} & {f.name for f in fields(Manifest)} - {"text_length"}
    return Dataset(**place, **{name: getattr(manifest, name) for name in same})


def open_manifest(path: str | os.PathLike[str]) -> Manifest | None:
    """Check that `path` can be trained on.

    Args:
        path: a folder made by `python -m data_prep shards`, a bare folder of tars (see `bare`), or the file of a blend
            (see `blend`).

    Returns: the folder's manifest; of a blend, what its datasets have in common; None for a bare folder, whose samples
        are checked one by one.

    Raises:
        UserError: it does not exist, is incomplete, or a shard is missing or truncated; or datasets cannot be mixed.
    """
    place = Path(path)
    if not place.exists():
        raise UserError(f"data path {place} does not exist; make it with `python -m data_prep shards`")
    if place.is_file():
        return open_blend(place)
    if bare.is_bare(place):
        bare.check_index(place)
        return None
    manifest = read_manifest(place)
    check_shards(place, manifest)
    return manifest


def count_samples(path: str | os.PathLike[str], manifest: Manifest | None, split: str) -> int:
    """Samples of the "train" or "val" split at `path`, which `open_manifest` has let through."""
    return bare.count_samples(Path(path), split) if manifest is None else manifest.num_samples(split)


def cut_out(dataset: Dataset, window: ClipWindow, *, field: str = "data.window") -> Dataset:
    """The dataset of the clips that are cut out of video files.

    Args:
        dataset: of video files.
        window: what is cut out of every file.
        field: name of the setting that holds it.

    Raises:
        UserError: the files are known to be too short or too small.
    """
    if dataset.num_frames is not None and dataset.num_frames < window.span:
        raise UserError(
            f"{dataset.field} has clips of {dataset.num_frames} frames, and {field} takes {window.span}; "
            f"lower {field}.num_frames, or prepare longer clips."
        )
    cuts = window.space in ("random", "centre") and window.resize_short_side is None
    height, width = dataset.height, dataset.width
    if cuts and height is not None and width is not None and (height < window.height or width < window.width):
        raise UserError(
            f"{dataset.field} has frames of {height}x{width}, and {field} cuts out {window.height}x{window.width}; "
            f"lower {field}.height and width, or set {field}.space=cover."
        )
    return replace(
        dataset,
        num_frames=window.num_frames,
        height=window.height,
        width=window.width,
        fps=None if dataset.fps is None else dataset.fps / window.stride,
        window=window,
        window_field=field,
    )


def dataset_digest(path: str | os.PathLike[str]) -> str:
    """Digest of what a dataset consists of, wherever it lies."""
    place = Path(path)
    contents: Any = _shards(place) if place.is_dir() else [[p.weight, _shards(p.path)] for p in read_blend(place)]
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def _shards(folder: Path) -> Any:
    """What the manifest says about the shards; of a bare folder, their names, samples and sizes."""
    manifest = folder / MANIFEST_NAME
    if manifest.is_file():
        return json.loads(manifest.read_text())["shards"]
    counts = bare.shard_counts(folder)
    return [(name, count, (folder / name).stat().st_size) for name, count in sorted(counts.items())]

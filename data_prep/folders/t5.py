"""Write text embeddings in upstream's layout: `t5_xxl/NAME.pickle`, a list with one float16 array [n_tokens, width]."""

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from cosmos_nemo.errors import UserError
from cosmos_nemo.files import remove_debris, write_bytes
from data_prep.folders.embeddings import FLOAT16_MAX
from data_prep.folders.layout import find_media

FOLDER = "t5_xxl"
PICKLE_PROTOCOL = 4  # what upstream's Python writes, and every Python since 3.4 reads


@dataclass(kw_only=True)
class EmbeddingPlan:
    """Captions to embed, and the files to write them to."""

    todo: dict[str, list[Path]] = field(default_factory=dict)
    """For each caption, the pickles to write."""
    kept: int = 0
    """Number of pickles that exist already."""
    unusable: dict[str, str] = field(default_factory=dict)
    """Caption files that cannot be used, and why."""
    without_caption: list[str] = field(default_factory=list)
    """Videos or images without a caption."""
    without_media: list[str] = field(default_factory=list)
    """Captions without a video or image; they are embedded like the others."""

    @property
    def num_files(self) -> int:
        """Number of pickles to write."""
        return sum(map(len, self.todo.values()))


def plan_embeddings(folder: Path, *, images: bool = False, overwrite: bool = False) -> EmbeddingPlan:
    """Decide which captions of a dataset folder to embed.

    A pickle is kept unless its caption file is newer. Equal captions are embedded once.

    Args:
        folder: dataset with metas/.
        images: compare the captions with images/ instead of the videos.
        overwrite: write all pickles again.

    Raises:
        UserError: there are no captions.
    """
    texts = sorted((folder / "metas").glob("*.txt"))
    if not texts:
        raise UserError(f"no captions in {folder / 'metas'}; write some, for example with `python -m data_prep metas`")
    plan = EmbeddingPlan()
    media, stems = find_media(folder, images=images).keys(), {text.stem for text in texts}
    plan.without_caption, plan.without_media = sorted(media - stems), sorted(stems - media)
    for text in texts:
        file = folder / FOLDER / f"{text.stem}.pickle"
        if not overwrite and file.is_file() and file.stat().st_mtime_ns >= text.stat().st_mtime_ns:
            plan.kept += 1
            continue
        try:
            caption = text.read_text(encoding="utf-8-sig").strip()
        except UnicodeDecodeError:
            plan.unusable[text.name] = "is not UTF-8"
            continue
        if caption:
            plan.todo.setdefault(caption, []).append(file)
        else:
            plan.unusable[text.name] = "is empty"
    return plan


def write_embeddings(
    plan: EmbeddingPlan,
    encode: Callable[[list[str]], list[Tensor]],
    *,
    batch_size: int,
    on_file: Callable[[str], None] = lambda name: None,
) -> None:
    """Embed captions and write their pickles, each complete or not at all.

    Args:
        plan: what to do.
        encode: captions to embeddings [L, E].
        batch_size: captions per call of `encode`.
        on_file: called with the name of each finished pickle.
    """
    remove_debris(*{file.parent for files in plan.todo.values() for file in files})
    # Long captions together: a batch is padded to its longest.
    captions = sorted(plan.todo, key=lambda caption: (len(caption), caption))
    for batch in _batches(captions, batch_size):
        for caption, text_L_E in zip(batch, encode(batch), strict=True):
            content = to_pickle(text_L_E)
            for file in plan.todo[caption]:
                write_bytes(file, content)
                on_file(file.name)


def to_pickle(text_L_E: Tensor) -> bytes:
    """Pickle an embedding as upstream's loaders expect it: a list with one float16 array [L, E]."""
    array_L_E = np.clip(text_L_E.float().numpy(), -FLOAT16_MAX, FLOAT16_MAX).astype(np.float16)
    return pickle.dumps([array_L_E], protocol=PICKLE_PROTOCOL)


def _batches(captions: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(captions), size):
        yield captions[start : start + size]

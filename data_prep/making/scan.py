"""Find out what in an input folder can be used. Nothing is decoded or written here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cosmos_nemo.files import file_sha256
from cosmos_nemo.media.frames import resampled_indices
from cosmos_nemo.media.pictures import VideoError, read_image
from cosmos_nemo.media.probe import probe_video
from data_prep.folders.layout import IMAGE_SUFFIXES, find_media


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A source that can be used. It is small: a folder may hold a million of them."""

    stem: str
    path: Path
    source: str
    """Path below the input folder."""
    caption: str
    """Empty if there is none."""
    is_image: bool
    num_frames: int
    """Counted at the frame rate that was asked for; 1 for a still image."""
    fps: float
    """Of these frames; 0 for a still image."""
    height: int
    """Pixels as displayed."""
    width: int
    """Pixels as displayed."""
    source_num_frames: int
    embedding: Path | None = None
    """Upstream's pickle with the embedding of its caption."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Fate of one stem of the input."""

    stem: str
    status: str
    """"used", "skipped" (complete, but unusable) or "unmatched" (a part is missing)."""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Scan:
    """The input folder's usable clips and what is wrong with the rest."""

    clips: tuple[Clip, ...]
    verdicts: tuple[Verdict, ...]
    """Of the stems that are not among `clips`."""
    hashes: dict[str, str]
    """SHA-256 of every file that was looked at, by its path below the input folder."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Requirements that a source must meet."""

    num_frames: int = 1
    """Frames at least."""
    fps: float | None = None
    """Frame rate at which they are counted; None counts every frame."""
    images: bool = False
    """Take `images/*.jpg` instead of the videos, if there are any."""
    captions: bool = True
    """A caption `metas/*.txt`."""
    embeddings: bool = False
    """A text embedding `t5_xxl/*.pickle`."""


def scan_folder(
    folder: Path, wanted: Wanted, *, on_file: Callable[[str, int, int], None] = lambda stem, done, total: None
) -> Scan:
    """Pair pictures with captions by stem, as upstream does, and probe every video.

    Args:
        folder: holds `videos/*.mp4` (or `*.mp4` directly) and `metas/*.txt`.
        wanted: what a source must have.
        on_file: called with the stem, the number of stems done, and that of all.

    Raises:
        UserError: there is no such folder, or nothing in it.
    """
    media = find_media(folder, images=wanted.images, captions=wanted.captions)
    texts = {file.stem: file for file in sorted((folder / "metas").glob("*.txt"))}
    embeddings = {f.stem: f for f in sorted((folder / "t5_xxl").glob("*.pickle"))} if wanted.embeddings else {}
    clips: list[Clip] = []
    verdicts: list[Verdict] = []
    hashes: dict[str, str] = {}
    stems = sorted(media.keys() | texts.keys())
    for done, stem in enumerate(stems, 1):
        files = _Files(folder, stem, media.get(stem), texts.get(stem), embeddings.get(stem))
        for file in files.present():
            hashes[file.relative_to(folder).as_posix()] = file_sha256(file)
        result = _examine(files, wanted)
        if isinstance(result, Clip):
            clips.append(result)
        else:
            verdicts.append(result)
        on_file(stem, done, len(stems))
    return Scan(clips=tuple(clips), verdicts=tuple(verdicts), hashes=hashes)


@dataclass(frozen=True)
class _Files:
    """The files of one stem."""

    folder: Path
    stem: str
    media: Path | None
    text: Path | None
    embedding: Path | None

    def present(self) -> Iterator[Path]:
        yield from (file for file in (self.media, self.text, self.embedding) if file is not None)


def _examine(files: _Files, wanted: Wanted) -> Clip | Verdict:
    stem = files.stem
    if files.media is None:
        return Verdict(stem=stem, status="unmatched", reason=f"metas/{stem}.txt has no video")
    source = files.media.relative_to(files.folder).as_posix()
    if wanted.captions and files.text is None:
        return Verdict(stem=stem, status="unmatched", reason=f"{source} has no caption metas/{stem}.txt")
    if wanted.embeddings and files.embedding is None:
        return Verdict(stem=stem, status="unmatched", reason=f"{source} has no text embedding t5_xxl/{stem}.pickle")
    try:
        caption = "" if files.text is None else files.text.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError:
        return Verdict(stem=stem, status="skipped", reason=f"caption metas/{stem}.txt is not UTF-8")
    if wanted.captions and not caption:
        return Verdict(stem=stem, status="skipped", reason=f"caption metas/{stem}.txt is empty")
    try:
        return _clip(files, files.media, source, caption, wanted)
    except VideoError as error:
        return Verdict(stem=stem, status="skipped", reason=f"{source}: {error}")


def _clip(files: _Files, media: Path, source: str, caption: str, wanted: Wanted) -> Clip:
    if media.suffix.lower() in IMAGE_SUFFIXES:
        _, height, width = read_image(media).shape
        num_frames, available, fps = 1, 1, 0.0
    else:
        probe = probe_video(media)
        height, width, num_frames, fps = probe.height, probe.width, probe.num_frames, probe.fps
        available = num_frames
        if wanted.fps is not None:
            available, fps = len(resampled_indices(probe, wanted.fps)), wanted.fps
        if available < wanted.num_frames:
            at = f" at {wanted.fps:g} frames per second" if wanted.fps else ""
            raise VideoError(f"too short: {available} frames{at}, {wanted.num_frames} are needed")
    return Clip(
        stem=files.stem,
        path=media,
        source=source,
        caption=caption,
        is_image=media.suffix.lower() in IMAGE_SUFFIXES,
        num_frames=available,
        fps=fps,
        height=height,
        width=width,
        source_num_frames=num_frames,
        embedding=files.embedding,
    )

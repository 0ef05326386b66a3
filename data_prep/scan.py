"""What is in an input folder, and which of it can be used. Nothing is decoded or written here."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cosmos_nemo.data.frames import VideoError, VideoProbe, probe_video, read_image
from cosmos_nemo.errors import UserError

VIDEO_SUFFIXES: tuple[str, ...] = (".mp4",)
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A source that can be used."""

    stem: str
    path: Path
    source: str  # path below the input folder
    caption: str
    probe: VideoProbe | None  # None for a still image
    height: int
    width: int

    @property
    def num_frames(self) -> int:
        """Frames of the source; 1 for a still image."""
        return 1 if self.probe is None else self.probe.num_frames


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one stem of the input."""

    stem: str
    status: str  # "used", "skipped" (has picture and caption, cannot be used) or "unmatched" (one of them is missing)
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Scan:
    """The input folder's usable clips and what is wrong with the rest."""

    clips: tuple[Clip, ...]
    verdicts: tuple[Verdict, ...]  # of the stems that are not among `clips`
    hashes: dict[str, str]  # every file that was looked at, below the input folder -> SHA-256


def scan_folder(
    folder: Path, *, num_frames: int, on_file: Callable[[str, int, int], None] = lambda stem, done, total: None
) -> Scan:
    """Pair pictures with captions by stem, as upstream does, and probe every video.

    Args:
        folder: holds `metas/*.txt` and `videos/*.mp4` (or `*.mp4` directly). With `num_frames=1`, `images/*.jpg` is
            taken instead of the videos when it exists.
        num_frames: frames a clip must have.
        on_file: progress: stem, files done, files in all.

    Raises:
        UserError: there is no such folder, or nothing in it.
    """
    media = find_media(folder, images=num_frames == 1)
    texts = {file.stem: file for file in sorted((folder / "metas").glob("*.txt"))}
    clips: list[Clip] = []
    verdicts: list[Verdict] = []
    hashes: dict[str, str] = {}
    stems = sorted(media.keys() | texts.keys())
    for done, stem in enumerate(stems, 1):
        for file in (media.get(stem), texts.get(stem)):
            if file is not None:
                hashes[file.relative_to(folder).as_posix()] = file_sha256(file)
        result = _examine(folder, stem, media.get(stem), texts.get(stem), num_frames)
        if isinstance(result, Clip):
            clips.append(result)
        else:
            verdicts.append(result)
        on_file(stem, done, len(stems))
    return Scan(clips=tuple(clips), verdicts=tuple(verdicts), hashes=hashes)


def find_media(folder: Path, *, images: bool) -> dict[str, Path]:
    """The folder's videos or images by stem.

    Raises:
        UserError: there are none, or two files share a stem.
    """
    if not folder.is_dir():
        raise UserError(f"input folder {folder} does not exist")
    place, suffixes = folder / "videos", VIDEO_SUFFIXES
    if images and (folder / "images").is_dir():
        place, suffixes = folder / "images", IMAGE_SUFFIXES
    elif not place.is_dir():
        place = folder
    media: dict[str, Path] = {}
    for file in sorted(place.iterdir()):
        if file.is_file() and file.suffix.lower() in suffixes and not file.name.startswith("."):
            if file.stem in media:
                raise UserError(f"{file} and {media[file.stem].name} share the caption {file.stem}.txt; rename one")
            media[file.stem] = file
    if not media:
        raise UserError(
            f"no {'/'.join(suffixes)} file in {place}; expected {folder}/videos/NAME.mp4 and {folder}/metas/NAME.txt"
        )
    return media


def _examine(folder: Path, stem: str, file: Path | None, text: Path | None, num_frames: int) -> Clip | Verdict:
    if file is None:
        return Verdict(stem=stem, status="unmatched", reason=f"metas/{stem}.txt has no video")
    source = file.relative_to(folder).as_posix()
    if text is None:
        return Verdict(stem=stem, status="unmatched", reason=f"{source} has no caption metas/{stem}.txt")
    try:
        caption = text.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError:
        return Verdict(stem=stem, status="skipped", reason=f"caption metas/{stem}.txt is not UTF-8")
    if not caption:
        return Verdict(stem=stem, status="skipped", reason=f"caption metas/{stem}.txt is empty")
    try:
        return _clip(stem, file, source, caption, num_frames)
    except VideoError as error:
        return Verdict(stem=stem, status="skipped", reason=f"{source}: {error}")


def _clip(stem: str, file: Path, source: str, caption: str, num_frames: int) -> Clip:
    if file.suffix.lower() in IMAGE_SUFFIXES:
        _, height, width = read_image(file).shape
        return Clip(stem=stem, path=file, source=source, caption=caption, probe=None, height=height, width=width)
    probe = probe_video(file)
    if probe.num_frames < num_frames:
        raise VideoError(f"too short: {probe.num_frames} frames, {num_frames} needed")
    return Clip(
        stem=stem, path=file, source=source, caption=caption, probe=probe, height=probe.height, width=probe.width
    )


def file_sha256(*files: Path) -> str:
    """SHA-256 over the contents of files, in the order given, read in pieces."""
    digest = hashlib.sha256()
    for file in files:
        for piece in _pieces(file):
            digest.update(piece)
    return digest.hexdigest()


def _pieces(file: Path) -> Iterator[bytes]:
    with open(file, "rb") as stream:
        while piece := stream.read(1 << 20):
            yield piece

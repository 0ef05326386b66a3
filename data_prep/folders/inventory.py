"""Take stock of a folder of videos or images before anything is done with it. Nothing is written."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cosmos_nemo.data.clip_specs import CLIP_SPECS, ClipSpec
from cosmos_nemo.files import file_sha256
from cosmos_nemo.media.pictures import VideoError, read_image
from cosmos_nemo.media.probe import probe_video
from data_prep.folders.layout import IMAGE_SUFFIXES, find_media

ASPECT_TOLERANCE = 0.02  # a change of shape that nobody sees: 1280x704 from 16:9 is 2.2 %


@dataclass(frozen=True, kw_only=True)
class MediaFile:
    """A readable video or image."""

    name: str
    """Path below the folder."""
    stem: str
    codec: str
    pixel_format: str
    height: int
    """Pixels as displayed."""
    width: int
    """Pixels as displayed."""
    num_frames: int
    fps: float
    """Average frame rate; 0 for an image."""
    seconds: float
    constant_rate: bool
    upright: bool
    """False if the file says that it must be turned."""
    square_pixels: bool
    bytes: int
    caption: str
    """"present", "missing", "empty" or "not UTF-8"."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Numbers of files that serve one recipe. Those other than `fits` may overlap."""

    needs: str
    fits: int
    too_short: int
    without_caption: int
    """Long enough, but without the caption that the model needs."""
    enlarged: int
    """Of those that fit, the ones smaller than the recipe's size."""
    reshaped: int
    """Of those that fit, the ones of another aspect ratio, which are distorted or cropped."""


@dataclass(kw_only=True)
class Inventory:
    """Everything in a folder. `files` and `unreadable` together are all its videos, or images."""

    folder: str
    kind: str
    """"videos" or "images"."""
    files: list[MediaFile] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    """Names of unreadable files, and why they are."""
    duplicates: list[list[str]] = field(default_factory=list)
    """Groups of names with the same content."""
    captions_without_media: list[str] = field(default_factory=list)
    recipes: dict[str, Fit] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of videos, or images."""
        return len(self.files) + len(self.unreadable)

    def captions(self) -> Counter[str]:
        """Count the files by the state of their caption."""
        return Counter(file.caption for file in self.files)

    def groups(self) -> list[tuple[tuple[str, str, str], list[MediaFile]]]:
        """Group the files by (codec, size, frame rate), the largest group first."""
        groups: defaultdict[tuple[str, str, str], list[MediaFile]] = defaultdict(list)
        for file in self.files:
            rate = "-" if not file.fps else f"{file.fps:.4g}{'' if file.constant_rate else ' varying'}"
            groups[file.codec, f"{file.height}x{file.width}", rate].append(file)
        return sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON, with the totals in front."""
        counts = {
            "total": self.total,
            "readable": len(self.files),
            "unreadable": len(self.unreadable),
            "duplicates": sum(len(names) - 1 for names in self.duplicates),
            "captions": dict(sorted(self.captions().items())),
            "seconds": round(sum(file.seconds for file in self.files), 3),
            "bytes": sum(file.bytes for file in self.files),
        }
        return {"counts": counts, **asdict(self)}


def take_inventory(
    folder: Path,
    *,
    images: bool = False,
    workers: int = 1,
    on_file: Callable[[str], None] = lambda name: None,
) -> Inventory:
    """Probe every file of a folder.

    Args:
        folder: dataset, see `scan.find_media`.
        images: look at images/ instead of the videos.
        workers: threads.
        on_file: called with the name of each file that was looked at.

    Raises:
        UserError: there is nothing to look at.
    """
    media = find_media(folder, images=images)
    stems = {file.stem for file in (folder / "metas").glob("*.txt")}
    inventory = Inventory(folder=str(folder), kind="images" if images else "videos")
    inventory.captions_without_media = sorted(stems - media.keys())
    with ThreadPoolExecutor(max_workers=workers) as pool:
        looks = pool.map(lambda path: _look_at(folder, path), media.values())
        for path, result in zip(media.values(), looks, strict=True):
            if isinstance(result, MediaFile):
                inventory.files.append(result)
            else:
                inventory.unreadable[path.relative_to(folder).as_posix()] = result
            on_file(path.name)
    inventory.duplicates = find_duplicates(folder, media.values())
    inventory.recipes = {
        name: fit
        for name, spec in CLIP_SPECS.items()
        if (fit := fit_recipe(spec, inventory.files, images=images)) is not None
    }
    return inventory


def _look_at(folder: Path, path: Path) -> MediaFile | str:
    """Describe a file, or say why it cannot be read."""
    common: dict[str, Any] = {
        "name": path.relative_to(folder).as_posix(),
        "stem": path.stem,
        "bytes": path.stat().st_size,
        "caption": caption_state(folder / "metas" / f"{path.stem}.txt"),
    }
    try:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            _, height, width = read_image(path).shape
            facts: dict[str, Any] = {"codec": path.suffix.lower()[1:], "pixel_format": "rgb24", "num_frames": 1}
            facts |= {"fps": 0.0, "seconds": 0.0, "constant_rate": True, "upright": True, "square_pixels": True}
            return MediaFile(**common, **facts, height=height, width=width)
        probe = probe_video(path)
    except VideoError as error:
        return str(error)
    return MediaFile(
        **common,
        codec=probe.codec,
        pixel_format=probe.pixel_format,
        height=probe.height,
        width=probe.width,
        num_frames=probe.num_frames,
        fps=round(probe.fps, 4),
        seconds=round(float(probe.duration), 3),
        constant_rate=probe.has_constant_rate,
        upright=probe.orientation == type(probe.orientation)(),
        square_pixels=probe.sample_aspect_ratio == 1,
    )


def caption_state(file: Path) -> str:
    """Say whether a caption can be used: "present", "missing", "empty" or "not UTF-8"."""
    if not file.is_file():
        return "missing"
    try:
        return "present" if file.read_text(encoding="utf-8-sig").strip() else "empty"
    except UnicodeDecodeError:
        return "not UTF-8"


def find_duplicates(folder: Path, files: Iterable[Path]) -> list[list[str]]:
    """Find groups of files with the same content. Only files of equal length are read."""
    by_size: defaultdict[int, list[Path]] = defaultdict(list)
    for file in files:
        by_size[file.stat().st_size].append(file)
    by_hash: defaultdict[str, list[str]] = defaultdict(list)
    for same in by_size.values():
        for file in same if len(same) > 1 else ():
            by_hash[file_sha256(file)].append(file.relative_to(folder).as_posix())
    return sorted(names for names in by_hash.values() if len(names) > 1)


def fit_recipe(spec: ClipSpec, files: list[MediaFile], *, images: bool) -> Fit | None:
    """Count the files that serve a recipe; None if it takes no files of this kind."""
    if images and spec.num_frames > 1:
        return None
    long = [file for file in files if file.num_frames >= spec.num_frames]
    used = [file for file in long if spec.text_length is None or file.caption == "present"]
    size = "any size" if spec.height is None else f"{spec.height}x{spec.width}"
    frames = "1 frame" if spec.num_frames == 1 else f"{spec.num_frames} frames"
    return Fit(
        needs=f"{frames}, {size}{'' if spec.text_length is None else ', caption'}",
        fits=len(used),
        too_short=len(files) - len(long),
        without_caption=len(long) - len(used),
        enlarged=sum(_is_enlarged(spec, file) for file in used),
        reshaped=sum(_is_reshaped(spec, file) for file in used),
    )


def _is_enlarged(spec: ClipSpec, file: MediaFile) -> bool:
    return spec.height is not None and spec.width is not None and (file.height < spec.height or file.width < spec.width)


def _is_reshaped(spec: ClipSpec, file: MediaFile) -> bool:
    if spec.height is None or spec.width is None:
        return False
    change = (file.width / file.height) / (spec.width / spec.height)
    return abs(change - 1) > ASPECT_TOLERANCE

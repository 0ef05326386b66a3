"""Find videos and images in a dataset folder."""

from pathlib import Path

from cosmos_nemo.errors import UserError

VIDEO_SUFFIXES: tuple[str, ...] = (".mp4",)
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


def find_media(folder: Path, *, images: bool, captions: bool = True) -> dict[str, Path]:
    """Find the folder's videos or images, by stem.

    Args:
        folder: holds `videos/*.mp4` (or `*.mp4` directly) or `images/*.jpg`.
        images: take `images/` if there is one.
        captions: whether captions are needed, for the error message.

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
        and_captions = f" and {folder}/metas/NAME.txt" if captions else ""
        raise UserError(f"no {'/'.join(suffixes)} file in {place}; expected {folder}/videos/NAME.mp4{and_captions}")
    return media

"""Names that picture and video files end with. Imports nothing, so that options can be checked without torch."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")


def is_image(name: str) -> bool:
    """Return whether a file of this name is taken for a picture rather than a video."""
    return name.lower().endswith(IMAGE_SUFFIXES)

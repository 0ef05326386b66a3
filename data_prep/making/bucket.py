"""Classes of aspect ratio, size and length, recorded with every sample, so that training can select and group."""

import math

ASPECTS = {"16:9": 16 / 9, "4:3": 4 / 3, "1:1": 1.0, "3:4": 3 / 4, "9:16": 9 / 16}
SIZES = (240, 360, 480, 720, 1080, 2160)  # shorter side, pixels
LENGTHS = (1, 9, 17, 33, 49, 61, 93, 121, 241, 481)  # frames; what the published models take, and beyond


def bucket_of(*, height: int, width: int, num_frames: int) -> dict[str, str | int]:
    """Return the nearest aspect ratio, and the largest size and length that are not above the source's.

    Args:
        height: of the source, pixels.
        width: of the source, pixels.
        num_frames: of the source.
    """
    aspect = min(ASPECTS, key=lambda name: abs(math.log(width / height / ASPECTS[name])))
    short = min(height, width)
    size = max((s for s in SIZES if s <= short), default=0)
    length = max((n for n in LENGTHS if n <= num_frames), default=0)
    return {"aspect": aspect, "size": f"{size}p" if size else f"below {SIZES[0]}p", "length": length}

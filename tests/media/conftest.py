"""Videos of every kind."""

import pytest

from tests.data import videos

UNEVEN = [0, 40, 45, 80, 200, 205, 210, 400, 433, 466, 500, 1000, 1010, 1020, 1500, 1501, 1600, 1700, 1800, 2900]
UNEVEN += [2900 + 37 * i for i in range(1, 31)]  # milliseconds, fifty frames


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Fifty frames in every kind of file."""
    folder = tmp_path_factory.mktemp("video")
    pixels = videos.noise(50)
    gop = videos.write(folder / "gop.mp4", pixels)
    cut = videos.remux(gop, folder / "cut.mp4", before=["-ss", "1.1"])
    return {
        "gop": gop,
        "uneven": videos.write(folder / "uneven.mp4", pixels, pts=UNEVEN),
        "uneven mkv": videos.write(folder / "uneven.mkv", pixels, pts=UNEVEN),
        "late start": videos.write(folder / "late.mp4", pixels, pts=[7000 + 42 * i for i in range(50)]),
        "edit list": cut,
        "one keyframe": videos.write(folder / "one.mp4", pixels, group=1000),
        "all keyframes": videos.write(folder / "intra.mp4", pixels, group=1, b_frames=0),
        "transport stream": videos.remux(gop, folder / "gop.ts"),
        "avi": videos.remux(gop, folder / "gop.avi"),
        "webm": videos.write(folder / "vp9.webm", pixels[:12], codec="libvpx-vp9"),
        "mpeg4": videos.write(folder / "part2.mp4", pixels, codec="mpeg4"),
        "10 bit 444": videos.write(folder / "ten.mp4", pixels[:12], pixel_format="yuv444p10le"),
        "gray": videos.write(folder / "gray.mp4", pixels[:12], pixel_format="gray"),
        "rgb with alpha": videos.write(folder / "alpha.mov", pixels[:12], codec="qtrle", pixel_format="argb"),
    }

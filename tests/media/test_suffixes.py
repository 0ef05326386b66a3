"""Names tell pictures from videos."""

import pytest

from cosmos_nemo.media.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_image


@pytest.mark.parametrize("suffix", [*IMAGE_SUFFIXES, ".PNG"])
def test_pictures_are_known_by_their_names(suffix):
    assert is_image(f"a.b{suffix}")


@pytest.mark.parametrize("name", [*(f"a{suffix}" for suffix in VIDEO_SUFFIXES), "png", "a.png.mp4", ""])
def test_everything_else_is_taken_for_a_video(name):
    assert not is_image(name)

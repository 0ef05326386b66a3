"""Samples are classed by shape, size and length of their source."""

import pytest

from data_prep.making.bucket import bucket_of


@pytest.mark.parametrize(
    ("height", "width", "num_frames", "expected"),
    [
        (720, 1280, 93, {"aspect": "16:9", "size": "720p", "length": 93}),
        (1280, 720, 120, {"aspect": "9:16", "size": "720p", "length": 93}),
        (704, 1280, 1, {"aspect": "16:9", "size": "480p", "length": 1}),
        (480, 640, 32, {"aspect": "4:3", "size": "480p", "length": 17}),
        (100, 100, 10_000, {"aspect": "1:1", "size": "below 240p", "length": 481}),
    ],
)
def test_the_nearest_shape_and_the_size_and_length_that_are_reached(height, width, num_frames, expected):
    assert bucket_of(height=height, width=width, num_frames=num_frames) == expected

"""What cannot be drawn is refused."""

import pytest

from cosmos_nemo.errors import UserError
from data_prep.demo.options import SampleOptions


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_videos": 0}, "--num-videos 0 must be at least 1"),
        ({"num_frames": 1}, "--num-frames 1 shows no motion; use 2 or more"),
        ({"height": 31}, "--height 31 and --width 96 must be even numbers, at least 16"),
        ({"width": 8}, "--height 64 and --width 8 must be even numbers, at least 16"),
        ({"fps": 0.0}, "--fps 0.0 must be positive"),
    ],
)
def test_options_that_make_no_video_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        SampleOptions(**change)

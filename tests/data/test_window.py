"""Windows in time and space."""

from __future__ import annotations

import pytest

from cosmos_nemo.data.window import ClipWindow
from cosmos_nemo.errors import UserError


def test_windows_that_cannot_be_are_refused() -> None:
    for changes in ({"num_frames": 0}, {"flip_probability": 1.5}, {"time": "end"}, {"space": "left"}):
        with pytest.raises(UserError, match=f"{next(iter(changes))}="):
            ClipWindow(**changes)


def test_validation_looks_at_the_middle_and_turns_nothing_around() -> None:
    window = ClipWindow(flip_probability=0.5, reverse_probability=0.5, resize_probability=0.9, space="random").still()
    assert (window.time, window.space) == ("centre", "centre")
    assert (window.flip_probability, window.reverse_probability, window.resize_probability) == (0.0, 0.0, 1.0)
    assert ClipWindow(space="cover").still().space == "cover"


def test_span_counts_the_frames_between_those_of_the_clip() -> None:
    assert ClipWindow(num_frames=5, stride=3).span == 13

"""The views of a video are written if the user asks for them."""

import torch

from cosmos_nemo.inference.output import write_views
from cosmos_nemo.media.probe import probe_video
from cosmos_nemo.media.strip import StripRow
from tests.media.ramp import moving_ramp

ROWS = [
    StripRow(label="input", frames_T_3_H_W=moving_ramp(2)),
    StripRow(label="generated", frames_T_3_H_W=moving_ramp(6)),
]


def test_nothing_is_written_unasked(tmp_path):
    assert write_views(ROWS, num_frames=6, fps=8, strip=None, columns=3, comparison=None) == []


def test_strip_and_comparison_show_every_row(tmp_path):
    places = {"strip": tmp_path / "a.png", "comparison": tmp_path / "a.mp4"}
    assert write_views(ROWS, num_frames=6, fps=8, columns=3, **places) == list(places.values())
    probe = probe_video(tmp_path / "a.mp4")
    assert (probe.num_frames, probe.height, probe.width, probe.fps) == (6, 48, 128, 8.0)
    assert torch.is_tensor(ROWS[0].frames_T_3_H_W) and (tmp_path / "a.png").stat().st_size > 1000

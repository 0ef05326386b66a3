import numpy as np
import torch
from PIL import Image

from cosmos_nemo.media.strip import (
    EMPTY,
    HEADER_HEIGHT,
    LABEL_WIDTH,
    StripRow,
    draw_strip,
    even_indices,
    write_strip,
)


def flat(color, num_frames):
    return torch.tensor(color, dtype=torch.uint8)[None, :, None, None].expand(num_frames, 3, 40, 80)


def test_columns_run_from_the_first_to_the_last_frame():
    assert even_indices(9, 3) == [0, 4, 8]
    assert even_indices(93, 8)[0] == 0 and even_indices(93, 8)[-1] == 92
    assert even_indices(3, 8) == [0, 1, 2]
    assert even_indices(1, 8) == [0]


def test_each_row_shows_its_frames_and_stays_empty_beyond_them(tmp_path):
    rows = [
        StripRow(label="input", frames_T_3_H_W=flat((255, 0, 0), 1)),
        StripRow(label="generated", frames_T_3_H_W=flat((0, 255, 0), 9)),
        StripRow(label="truth", frames_T_3_H_W=flat((0, 0, 255), 5)),
    ]
    write_strip(tmp_path / "strip.png", rows, num_frames=9, fps=8, columns=3)
    pixels = np.asarray(Image.open(tmp_path / "strip.png"))
    cell_height, cell_width = 164, 324  # 160 x 320 and a gap
    seen = [
        [
            tuple(pixels[HEADER_HEIGHT + 80 + row * cell_height, LABEL_WIDTH + 160 + column * cell_width])
            for column in range(3)
        ]
        for row in range(3)
    ]
    assert seen[0] == [(255, 0, 0), EMPTY, EMPTY]
    assert seen[1] == [(0, 255, 0)] * 3
    assert seen[2] == [(0, 0, 255), (0, 0, 255), EMPTY]


def test_every_row_and_column_is_labelled():
    rows = [StripRow(label="generated", frames_T_3_H_W=flat((255, 255, 255), 4))]
    pixels = np.asarray(draw_strip(rows, num_frames=4, fps=8, columns=2))
    assert (pixels[:HEADER_HEIGHT, LABEL_WIDTH:] < 128).any(), "time over the columns"
    assert (pixels[HEADER_HEIGHT:, :LABEL_WIDTH] < 128).any(), "name beside the row"

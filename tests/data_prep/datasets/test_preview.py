"""Contact sheets show what is in a dataset."""

import numpy as np
import pytest
from PIL import Image

from cosmos_nemo.errors import UserError
from cosmos_nemo.media.frames import read_indices
from cosmos_nemo.media.probe import probe_video
from data_prep.datasets.preview import FRAME_WIDTH, MARGIN, write_preview
from data_prep.making.options import options_for
from data_prep.making.shards import make_shards
from tests.data.shards import make_sample, make_tokens, write_dataset
from tests.data_prep.datasets.cases import TOKENS


@pytest.fixture
def raw(clips, tmp_path):
    make_shards(options_for("tokenizer", None, input=clips, output=tmp_path / "raw", num_frames=5, val_fraction=0.0))
    return tmp_path / "raw"


SIZE = {"num_samples": 8, "num_frames": 6}


def test_raw_video_is_shown_frame_by_frame(raw, clips, tmp_path):
    count, method = write_preview(raw, tmp_path / "sheet.png", num_samples=1, num_frames=3)
    assert (count, method) == (1, "frames of the videos")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    path = clips / "videos" / "clip0.mp4"
    frames = read_indices(path, probe_video(path), [0, 4, 7])  # the first, the middle, the last
    for column in range(3):
        left = MARGIN + column * (FRAME_WIDTH + MARGIN)
        expected = Image.fromarray(frames[:, column].permute(1, 2, 0).numpy()).resize((FRAME_WIDTH, 160))
        assert np.array_equal(sheet[-160 - MARGIN : -MARGIN, left : left + FRAME_WIDTH], np.asarray(expected))


def test_as_many_rows_as_there_are_samples(raw, tmp_path):
    heights = []
    for wanted, expected in ((1, 1), (4, 4), (50, 6)):
        assert write_preview(raw, tmp_path / "sheet.png", num_samples=wanted, num_frames=6)[0] == expected
        heights.append(Image.open(tmp_path / "sheet.png").height)
    assert heights[0] < heights[1] < heights[2]


def test_latents_are_decoded_by_the_tokenizer_that_made_them(options, tmp_path):
    chosen = options()
    make_shards(chosen)
    count, method = write_preview(chosen.output, tmp_path / "sheet.png", num_samples=2, num_frames=6)
    assert (count, method) == (2, f"decoded by {chosen.video_tokenizer}")


@pytest.mark.parametrize("samples", [[make_sample("a")], [make_tokens("a")]])
def test_without_the_tokenizer_there_are_false_colours(tmp_path, samples):
    kind = TOKENS if hasattr(samples[0], "tokens_T_H_W") else {}
    folder = write_dataset(tmp_path / "set", {"train-000000.tar": samples}, **kind)
    _, method = write_preview(folder, tmp_path / "sheet.png", **SIZE)
    assert "false colours, as the video tokenizer none is missing; give --video-tokenizer" in method
    assert np.asarray(Image.open(tmp_path / "sheet.png")).std() > 10


def test_a_damaged_sample_is_a_row_that_says_so(tmp_path):
    shards = {"train-000000.tar": [make_sample("a"), make_sample("b")]}
    change = lambda sample, parts: parts | {"json": b"{"} if sample.key == "a" else parts  # noqa: E731
    folder = write_dataset(tmp_path / "set", shards, change=change)
    assert write_preview(folder, tmp_path / "sheet.png", **SIZE)[0] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "--num-samples 0"),
        ({"num_frames": 0}, "--num-frames 0"),
        ({"output": "x.jpg"}, r".png file"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, options, message):
    output = tmp_path / options.pop("output", "x.png")
    with pytest.raises(UserError, match=message):
        write_preview(tmp_path, output, **SIZE | options)

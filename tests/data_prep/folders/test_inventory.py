"""What is in a folder."""

import json
import shutil
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cosmos_nemo.data.clip_specs import CLIP_SPECS
from cosmos_nemo.errors import UserError
from data_prep.__main__ import app
from tests.data import videos


def run(*arguments):
    result = CliRunner().invoke(app, ["inspect", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight files with everything that can be wrong with them."""
    folder = tmp_path_factory.mktemp("inspect")
    for name in ("videos", "metas"):
        (folder / name).mkdir()
    place = folder / "videos"
    videos.write(place / "good.mp4", videos.noise(17, (64, 96)))
    shutil.copy(place / "good.mp4", place / "copy.mp4")
    videos.write(place / "short.mp4", videos.noise(16, (64, 96)))
    videos.write(place / "small.mp4", videos.noise(20))
    videos.write(place / "uneven.mp4", videos.noise(17, (64, 64)), pts=[k * k * 10 for k in range(17)])
    videos.write(place / "wide.mp4", videos.noise(50, (64, 96)), sample_aspect_ratio=Fraction(2))
    (place / "broken.mp4").write_bytes(b"no video")
    (place / "empty.mp4").write_bytes(b"")
    for stem in ("good", "copy", "short", "wide", "nobody"):
        (folder / "metas" / f"{stem}.txt").write_text("a ball\n")
    (folder / "metas" / "small.txt").write_text(" ")
    (folder / "metas" / "uneven.txt").write_bytes(b"\xff")
    return folder


def test_everything_is_counted_once(folder):
    found = json.loads(run(folder, "--json"))
    assert found["counts"]["total"] == 8 == found["counts"]["readable"] + found["counts"]["unreadable"]
    assert found["counts"]["captions"] == {"empty": 1, "not UTF-8": 1, "present": 4}
    assert set(found["unreadable"]) == {"videos/broken.mp4", "videos/empty.mp4"}
    assert all(reason.startswith("unreadable: ") for reason in found["unreadable"].values())
    assert found["duplicates"] == [["videos/copy.mp4", "videos/good.mp4"]] and found["counts"]["duplicates"] == 1
    assert found["captions_without_media"] == ["nobody"]
    files = {file["stem"]: file for file in found["files"]}
    assert (files["good"]["num_frames"], files["good"]["fps"], files["good"]["codec"]) == (17, 24.0, "h264")
    assert (files["wide"]["width"], files["wide"]["square_pixels"]) == (192, False)
    assert not files["uneven"]["constant_rate"] and files["good"]["constant_rate"]


def test_each_recipe_says_what_fits(folder):
    found = json.loads(run(folder, "--json", "--workers", 1))
    assert found["recipes"].keys() == CLIP_SPECS.keys()
    tiny = found["recipes"]["cosmos_v2w_tiny"]
    # good, copy and wide; short is too short; small and uneven have no caption.
    assert tiny == {
        "needs": "17 frames, 64x96, caption",
        "fits": 3,
        "too_short": 1,
        "without_caption": 2,
        "enlarged": 0,
        "reshaped": 1,
    }
    assert found["recipes"]["cosmos_ar_tiny"]["fits"] == 5 and found["recipes"]["cosmos_ar_tiny"]["enlarged"] == 2
    assert found["recipes"]["cosmos_tokenizer_cv8x8x8"]["fits"] == 1
    for fit in found["recipes"].values():
        assert fit["fits"] + fit["too_short"] + fit["without_caption"] == 6


def test_the_text_names_every_problem(folder):
    text = run(folder)
    for expected in ("8 videos", "64x96", "24", "varying", "captions: 1 empty, 1 not UTF-8, 4 present"):
        assert expected in text
    for expected in ("videos/copy.mp4 = videos/good.mp4", "metas/nobody.txt", "videos/broken.mp4: unreadable"):
        assert expected in text
    assert "1 are stored rotated or with non-square pixels" in text


def test_images_serve_image_recipes(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "metas").mkdir()
    for index, size in enumerate([(64, 96), (32, 48)]):
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / "images" / f"{index}.jpg")
        (tmp_path / "metas" / f"{index}.txt").write_text("black")
    (tmp_path / "images" / "bad.png").write_bytes(b"")
    found = json.loads(run(tmp_path, "--images", "--json"))
    assert set(found["recipes"]) == {name for name, spec in CLIP_SPECS.items() if spec.num_frames == 1}
    tiny = found["recipes"]["cosmos_t2i_tiny"]
    assert (tiny["fits"], tiny["enlarged"], tiny["needs"]) == (2, 1, "1 frame, 64x96, caption")
    assert list(found["unreadable"]) == ["images/bad.png"]


def test_real_videos(shared_dir):
    found = json.loads(run(shared_dir / "videos", "--json"))
    assert found["counts"]["readable"] == 8 and not found["unreadable"] and not found["duplicates"]
    frames = {file["stem"]: file["num_frames"] for file in found["files"]}
    assert frames["generated_text2world"] == 121 and frames["bridge_train_5873"] == 16
    assert found["recipes"]["cosmos_v2w_2b"]["too_short"] == 7


def test_nothing_to_look_at_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"no \.mp4 file in"):
        run(tmp_path)
    with pytest.raises(UserError, match="--workers 0"):
        run(tmp_path, "--workers", 0)

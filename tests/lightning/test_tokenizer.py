"""Training of video tokenizers with the real stack: two launches for all claims."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from cosmos_nemo.media.strip import CELL_HEIGHT, GAP, LABEL_WIDTH
from tests.distributed import run_ranks
from tests.lightning.ranks import rows, weights
from tests.lightning.shards import write_shards
from tests.lightning.tokenizer_ranks import write_videos

pytestmark = pytest.mark.nemo


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("data") / "videos")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def seen(shards: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    latents = write_shards(tmp_path_factory.mktemp("data") / "latents", num_train=2, num_val=1, shards=1)
    (result,) = run_ranks("tests.lightning.tokenizer_ranks:one_process", 1, str(shards), str(latents), str(root))
    return result


def metrics(root: Path, name: str, kind: str) -> list[dict[str, Any]]:
    lines = (root / "p/g" / name / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if kind in row]


def test_interrupted_run_ends_bit_for_bit_like_an_uninterrupted_one(seen: dict[str, Any], root: Path) -> None:
    assert seen["code_after_sigterm"] == 143
    assert rows(root, "cut") == rows(root, "straight")
    left, right = (weights(root, name, step=4) for name in ("cut", "straight"))
    assert left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)
    assert any(key.startswith("ema.") for key in left)


def test_validation_says_how_good_reconstructions_are_and_how_the_codebook_is_used(seen: Any, root: Path) -> None:
    row = metrics(root, "straight", "val_loss")[-1]
    assert row["val_psnr"] > 0 and -1 <= row["val_ssim"] <= 1
    assert 0 <= row["val_dead_codes"] < 12 and 0 <= row["val_code_entropy"] <= 3.59  # log2 of 12 codes
    picture = Image.open(root / "p/g/straight" / row["val_picture"])
    cell = CELL_HEIGHT * 48 // 32  # clips of validation are 32x48, those of training 32x32
    assert picture.width == LABEL_WIDTH + 6 * (cell + GAP)
    assert "val_rfvd" not in row
    row = metrics(root, "workers", "val_loss")[-1]
    assert "val_dead_codes" not in row  # continuous
    assert row["val_rfvd"] > 0  # two clips of noise, which a few steps do not give back


def test_terms_of_the_loss_are_logged_and_add_up_to_it(seen: Any, root: Path) -> None:
    for row in metrics(root, "straight", "loss"):
        assert row["loss"] == pytest.approx(row["color"])  # without VGG weights there is no other term


def test_run_ends_after_the_passes_asked_for(seen: Any, root: Path) -> None:
    assert [row["step"] for row in metrics(root, "workers", "loss")] == [1, 2, 3, 4]  # 8 videos, 2 at a time


@pytest.mark.parametrize(("name", "tolerance"), [("bf16", 2e-2), ("recomputed", 1e-6)])
def test_other_precision_and_recomputation_train_alike(seen: Any, root: Path, name: str, tolerance: float) -> None:
    for row, expected in zip(metrics(root, name, "loss"), metrics(root, "workers", "loss"), strict=False):
        assert row["loss"] == pytest.approx(expected["loss"], rel=tolerance)
        assert row["grad_norm"] == pytest.approx(expected["grad_norm"], rel=max(tolerance, 5 * tolerance))


def test_two_data_parallel_ranks_equal_one_process(seen: Any, shards: Path, root: Path) -> None:
    run_ranks("tests.lightning.tokenizer_ranks:two_processes", 2, str(shards), str(root))
    for row, expected in zip(metrics(root, "data2", "loss"), metrics(root, "workers", "loss"), strict=True):
        for name in ("loss", "color", "grad_norm"):
            assert row[name] == pytest.approx(expected[name], rel=1e-5)
    two, one = (weights(root, name, step=4) for name in ("data2", "workers"))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-5)


def test_published_weights_go_in_and_come_out_unchanged(seen: dict[str, Any], root: Path) -> None:
    assert seen["same_outputs"]
    fresh, loaded = (metrics(root, name, "loss")[0]["loss"] for name in ("workers", "from_jit"))
    assert fresh != loaded


def test_average_is_read_without_nemo(seen: dict[str, Any]) -> None:
    assert seen["average_loads"]


def test_run_says_what_export_needs(seen: Any, root: Path) -> None:
    run = json.loads((root / "p/g/straight/run.json").read_text())
    assert (run["family"], run["task"], run["averaging"]["decay"]) == ("cosmos_tokenizer", "tokenizer", 0.9)
    assert run["model"]["discrete"] and run["model"]["levels"] == [4, 3]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("cv_for_dv", "holds a CV8x8x8 tokenizer"),
        ("names", "is a DV8x16x16 tokenizer, and model.network a CV8x8x8 one; choose the recipe of the other kind"),
        ("other_task", "holds latent samples for the task video2world; a tokenizer is trained on video files"),
        ("frames", "data.window: num_frames=8 does not fit the video tokenizer: use 1 or 9"),
        ("size", "data.window: height=24 does not fit the video tokenizer: use 16 or 32"),
        ("long", "has clips of 10 frames, and data.window takes 17"),
        ("no_i3d", "model.i3d_path=/nowhere/i3d.pt does not exist"),
        ("large", "has frames of 32x48, and data.window cuts out 64x32"),
        ("val_large", "has frames of 32x48, and data.val_window cuts out 64x48; lower data.val_window.height"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(seen: dict[str, Any], case: str, words: str) -> None:
    assert words in seen[case] and "\n" not in seen[case]
    assert seen["left_nothing"]

"""Training, resuming and refusing, with the real stack: three launches for all claims."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.distributed import run_ranks
from tests.lightning.ranks import STEPS, rows, weights
from tests.lightning.shards import write_shards

pytestmark = pytest.mark.nemo


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_shards(folder / "embedded_elsewhere", text_encoder=None)
    return write_shards(folder / "shards")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def seen(shards: Path, root: Path) -> dict[str, Any]:
    with pytest.raises(RuntimeError, match="ended with -9"):
        run_ranks("tests.lightning.ranks:killed", 1, str(shards), str(root), "killed")
    assert [row["step"] for row in rows(root, "killed") if "loss" in row] == [1, 2, 3, 4]
    (result,) = run_ranks("tests.lightning.ranks:one_process", 1, str(shards), str(root))
    return result


@pytest.fixture(scope="module")
def seen_by_two(seen: dict[str, Any], shards: Path, root: Path) -> dict[str, Any]:
    return run_ranks("tests.lightning.ranks:two_processes", 2, str(shards), str(root))[0]


def _same_bytes(root: Path, a: str, b: str) -> bool:
    left, right = weights(root, a), weights(root, b)
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize(
    ("name", "straight"), [("killed", "straight"), ("terminated", "straight"), ("workers_cut", "workers")]
)
def test_interrupted_run_ends_bit_for_bit_like_an_uninterrupted_one(
    seen: Any, root: Path, name: str, straight: str
) -> None:
    assert rows(root, name) == rows(root, straight)
    assert _same_bytes(root, name, straight)


def test_run_writes_every_step_once_with_all_metrics(seen: Any, root: Path) -> None:
    lines = (root / "p/g/straight/metrics.jsonl").read_text().splitlines()
    training = [row for row in map(json.loads, lines) if "loss" in row]
    assert [row["step"] for row in training] == list(range(1, STEPS + 1))
    assert set(training[0]) == {
        *("step", "loss", "lr", "grad_norm", "seconds_per_step", "tokens_per_second", "tflops", "mfu"),
        *("data_wait_seconds", "skipped_samples", "peak_memory_gib", "consumed_samples"),
    }
    assert training[-1]["consumed_samples"] == 2 * STEPS
    assert training[0]["lr"] == pytest.approx(6e-4)
    assert [row["step"] for row in map(json.loads, lines) if "val_loss" in row] == [2, 4, 6]


def test_sigterm_saves_the_step_and_ends_with_the_code_of_a_terminated_process(seen: dict[str, Any]) -> None:
    assert seen["code_after_sigterm"] == 143
    assert seen["latest_after_sigterm"] == "iter_000000004\n"


def test_old_checkpoints_are_deleted_if_asked(seen: Any, root: Path) -> None:
    kept = sorted(path.name for path in (root / "p/g/workers/checkpoints").glob("iter_*"))
    assert kept == ["iter_000000006"]


def test_bf16_trains_close_to_fp32(seen: Any, root: Path) -> None:
    pairs = zip(rows(root, "bf16"), rows(root, "straight"), strict=True)
    losses = [(a["loss"], b["loss"]) for a, b in pairs if "loss" in a]
    assert losses[0][0] == pytest.approx(losses[0][1], rel=2e-2)
    assert losses[0][0] != losses[0][1]


def test_truncated_checkpoint_is_named_and_passed_over(seen: dict[str, Any], root: Path) -> None:
    assert ".distcp has" in seen["truncated"] and "truncated" in seen["truncated"]
    assert seen["other_left_nothing"]
    assert _same_bytes(root, "damaged", "straight")


def test_checkpoints_ahead_of_the_run_are_set_aside_and_never_cost_the_new_one(seen: Any, root: Path) -> None:
    names = {
        run: sorted(path.name for path in (root / "p/g" / run / "checkpoints").iterdir())
        for run in ("damaged", "slower")
    }
    assert names["damaged"] == ["iter_000000006", "latest_checkpoint.txt", "set-aside-iter_000000006"]
    assert names["slower"] == ["iter_000000004", "latest_checkpoint.txt", "set-aside-iter_000000006"]


def test_lower_learning_rate_takes_effect_on_a_resumed_run(seen: Any, root: Path) -> None:
    slower, straight = (
        {row["step"]: row["lr"] for row in rows(root, name) if "loss" in row} for name in ("slower", "straight")
    )
    assert slower[3] == straight[3]
    # The schedule of a run of 4 steps is at 3/4 of its way from 0.6 to 0.1.
    assert slower[4] == pytest.approx(1e-4 * (0.1 + 0.5 * (4 - 3) / 4))


def test_wrong_checkpoints_are_refused_in_one_line(seen: dict[str, Any]) -> None:
    assert "No checkpoint folder at" in seen["missing"] and "nosuch" in seen["missing"]
    assert "is of another model: num_layers 2 there, 3 here" in seen["size"]
    assert "holds checkpoints already" in seen["exists"]
    assert "cannot be dealt" in seen["exact_again"]
    assert all("\n" not in message for message in seen.values() if isinstance(message, str) and "error" in message)


def test_full_disk_is_said_and_leaves_the_older_checkpoint(seen: dict[str, Any]) -> None:
    assert "the checkpoint of step 6 could not be written" in seen["full"]
    assert seen["full_left"] == ["iter_000000003", "latest_checkpoint.txt"]


def test_initial_weights_of_another_size_are_refused_before_anything_is_written(seen: dict[str, Any]) -> None:
    assert "is of another model: num_layers 2 there, 3 here" in seen["weights_of_another_size"]


def test_loss_that_is_not_finite_stops_the_run_and_names_the_samples(seen: dict[str, Any], root: Path) -> None:
    assert "of step 2 is not finite" in seen["diverged"] and "train0" in seen["diverged"]
    assert not (root / "p/g/diverged/checkpoints/latest_checkpoint.txt").exists()


def test_checkpoint_loads_outside_nemo_and_starts_another_run(seen: dict[str, Any], root: Path) -> None:
    assert seen["loaded"]
    first, fresh = rows(root, "from_weights")[0]["loss"], rows(root, "straight")[0]["loss"]
    assert first != fresh


def test_run_says_what_generation_needs(seen: Any, root: Path) -> None:
    run = json.loads((root / "p/g/straight/run.json").read_text())
    assert run["task"] == "video2world"
    assert run["model"]["num_layers"] == 2 and run["model"]["video_condition"]
    assert run["data"]["num_frames"] == 9 and run["data"]["video_tokenizer"]["path"] == "none"
    assert run["objective"]["sigma_conditional"] == 1e-4


def test_shards_with_embeddings_from_elsewhere_train_and_the_run_names_no_text_encoder(seen: Any, root: Path) -> None:
    assert [row["step"] for row in rows(root, "embedded_elsewhere") if "loss" in row] == [1]
    run = json.loads((root / "p/g/embedded_elsewhere/run.json").read_text())
    assert run["data"]["text_encoder"] is None and run["data"]["text_width"] == 64


@pytest.mark.parametrize("family", ["dit", "ar", "tokenizer"])
def test_fresh_weights_are_those_of_the_runs_seed(seen: dict[str, Any], family: str) -> None:
    weights = seen["fresh_weights"]
    assert weights[f"{family} 1"] != weights[f"{family} 2"]
    assert weights.get(f"{family} 1 own 2", weights[f"{family} 2"]) == weights[f"{family} 2"]


def test_average_of_the_weights_is_the_one_of_its_definition(seen: dict[str, Any]) -> None:
    assert seen["average_is_wrong_by"] < 1e-6


def test_average_cannot_be_left_out_of_a_run_that_has_one(seen: dict[str, Any]) -> None:
    assert "made with a moving average" in seen["without_average"]


def test_what_is_frozen_stays_and_has_neither_average_nor_optimizer_state(seen: Any, root: Path) -> None:
    state = weights(root, "frozen")
    averaged = {name for name in state if name.startswith("ema.")}
    assert averaged and all("final." in name for name in averaged)
    assert all("final." in name for name in state if name.startswith("optimizer.state.exp_avg."))
    start = weights(root, "frozen", step=3)
    moved = {name for name in state if name.startswith("module.") and not torch.equal(state[name], start[name])}
    assert moved and all("final." in name for name in moved)


def test_adapters_train_and_are_averaged_and_the_network_below_them_stays(seen: Any, root: Path) -> None:
    state, base = weights(root, "lora"), weights(root, "straight")
    adapters = {name.removeprefix("module.") for name in state if name.startswith("module.") and ".lora_" in name}
    assert adapters and all(torch.count_nonzero(state[f"module.{name}"]) for name in adapters)
    assert all(torch.equal(state[name], base[name]) for name in base if name.startswith("module."))
    for kind in ("ema.", "optimizer.state.exp_avg."):
        parts = [name for name in state if name.startswith(kind)]
        assert parts and all(".lora_" in name for name in parts)
    start = weights(root, "lora", step=3)
    assert all(not torch.equal(state[f"ema.{name}"], start[f"ema.{name}"]) for name in adapters)


def test_a_run_is_not_continued_with_other_adapters(seen: dict[str, Any]) -> None:
    assert "the checkpoint has other adapters: rank 2 there, 4 here" in seen["other_adapters"]


def test_gradient_of_zero_stops_the_run(seen: dict[str, Any]) -> None:
    assert "the gradient of the first step is zero" in seen["zero_gradient"]


def test_wandb_offline_is_written_beside_the_metrics(seen: Any, root: Path) -> None:
    assert list((root / "p/g/straight/wandb").glob("offline-run-*/*.wandb"))


def test_two_data_parallel_ranks_equal_accumulation_on_one(seen_by_two: Any, root: Path) -> None:
    # The same samples come in the same order if the number of readers in all is the same.
    two = [row for row in rows(root, "data2") if "loss" in row]
    one = [row for row in rows(root, "workers") if "loss" in row]
    for left, right in zip(two, one, strict=True):
        assert left == pytest.approx(right, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "straight"), [("tensor2", "straight"), ("context2", "straight"), ("lora_tensor2", "lora")]
)
def test_run_continues_at_another_parallel_size(seen_by_two: Any, root: Path, name: str, straight: str) -> None:
    here = [row for row in rows(root, name) if "loss" in row]
    assert [row["step"] for row in here] == [4, 5, 6]
    for row, one in zip(here, [row for row in rows(root, straight) if "loss" in row][3:], strict=True):
        assert row == pytest.approx(one, rel=1e-4)


def test_parallel_sizes_that_do_not_fit_are_refused(seen_by_two: dict[str, Any]) -> None:
    assert "trainer.strategy: tensor_model_parallel_size=4 does not divide 2 processes" in seen_by_two["indivisible"]
    assert "data.global_batch_size=3" in seen_by_two["batch"] and "2 or 4" in seen_by_two["batch"]
    assert (
        "cannot be dealt to 2 with 0; use data.num_workers=0 and a data-parallel size of 1"
        in seen_by_two["redistribution"]
    )

"""Training, resuming and refusing of autoregressive networks with the real stack: two launches for all claims."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cosmos_nemo.data.schema import VideoSample
from tests.data.shards import TOKEN_SHAPE, VOCAB_SIZE, make_tokens, write_dataset
from tests.data.videos import noise, write
from tests.distributed import run_ranks
from tests.lightning.ar_ranks import PARALLEL, published
from tests.lightning.ranks import STEPS, rows, weights

pytestmark = pytest.mark.nemo

SPLITS = {"train-000000.tar": "abcdefgh", "val-000000.tar": "xy"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ar")


@pytest.fixture(scope="module")
def root(folder: Path) -> Path:
    return folder / "out"


@pytest.fixture(scope="module")
def tokens(folder: Path) -> Path:
    shards = {name: [make_tokens(key) for key in keys] for name, keys in SPLITS.items()}
    return write_dataset(
        folder / "tokens",
        shards,
        task="autoregressive",
        kind="tokens",
        latent_shape=None,
        latent_dtype=None,
        token_shape=TOKEN_SHAPE,
        vocab_size=VOCAB_SIZE,
    )


@pytest.fixture(scope="module")
def seen(folder: Path, root: Path, tokens: Path) -> dict[str, Any]:
    from cosmos_nemo.tokenizers.cosmos.jit import export_jit
    from tests.tokenizers.cosmos.clips import random_network, tiny_config

    samples = [
        VideoSample(key=key, media=write(folder / f"{key}.mp4", noise(12, (64, 96), seed=i)).read_bytes())
        for i, key in enumerate("abcd")
    ]
    kind = {"task": "autoregressive", "kind": "video"}
    none = dict.fromkeys(("num_frames", "height", "width", "fps", "latent_shape", "latent_dtype", "video_tokenizer"))
    no_text = dict.fromkeys(("text_width", "text_length", "text_encoder"))
    videos = write_dataset(folder / "videos", {"train-000000.tar": samples}, **kind, **none, **no_text)
    texts = [torch.randn(3 + i, 8, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    captioned = [replace(sample, text_L_E=text) for sample, text in zip(samples, texts, strict=True)]
    write_dataset(folder / "captioned", {"train-000000.tar": captioned}, **kind, **none)
    config = tiny_config(discrete=True)
    export_jit(random_network(config), config, folder / "dv")
    arguments = (str(tokens), str(videos), str(folder / "dv"), str(root))
    return run_ranks("tests.lightning.ar_ranks:one_process", 1, *arguments)[0]


@pytest.fixture(scope="module")
def seen_by_two(seen: dict[str, Any], root: Path, tokens: Path) -> dict[str, Any]:
    return run_ranks("tests.lightning.ar_ranks:two_processes", 2, str(tokens), str(root))[0]


def losses(root: Path, name: str) -> dict[int, float]:
    return {row["step"]: row["loss"] for row in rows(root, name) if "loss" in row}


@pytest.mark.parametrize(("cut", "straight"), [("cut", "straight"), ("lora_cut", "lora")])
def test_interrupted_run_ends_bit_for_bit_like_an_uninterrupted_one(
    seen: dict[str, Any], root: Path, cut: str, straight: str
) -> None:
    assert seen["code_after_sigterm"] == 143
    assert rows(root, cut) == rows(root, straight)
    left, right = weights(root, cut), weights(root, straight)
    assert left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def test_run_learns_and_writes_the_parts_of_the_loss(seen: Any, root: Path) -> None:
    lines = [json.loads(line) for line in (root / "p/g/straight/metrics.jsonl").read_text().splitlines()]
    training = [row for row in lines if "loss" in row]
    assert [row["step"] for row in training] == list(range(1, STEPS + 1))
    for row in training:
        assert row["loss"] == pytest.approx(row["cross_entropy"] + row["z_loss"], rel=1e-5)
    assert training[0]["cross_entropy"] == pytest.approx(math.log(VOCAB_SIZE), rel=0.2)
    assert [row["lr"] for row in training[:3]] == pytest.approx([0.0, 5e-3, 1e-2])
    validation = [row["val_loss"] for row in lines if "val_loss" in row]
    assert len(validation) == 3 and all(map(math.isfinite, validation))


def test_run_says_what_generation_needs(seen: Any, root: Path) -> None:
    run = json.loads((root / "p/g/straight/run.json").read_text())
    assert (run["family"], run["task"]) == ("autoregressive", "autoregressive")
    assert run["data"]["token_shape"] == list(TOKEN_SHAPE)
    assert run["model"]["num_query_groups"] == 2 and run["objective"]["num_condition_latents_t"] == 1
    videos = json.loads((root / "p/g/videos/run.json").read_text())
    # 9 frames at 64x96 through a tokenizer that compresses time by 8 and space by 16.
    assert videos["data"]["token_shape"] == [2, 4, 6] and len(videos["data"]["video_tokenizer"]["sha256"]) == 64


def test_network_that_reads_text_trains(seen: Any, root: Path) -> None:
    assert all(math.isfinite(loss) for loss in losses(root, "text").values())
    state, start = weights(root, "text"), weights(root, "text", step=3)
    moved = {key for key in state if key.startswith("module.") and not torch.equal(state[key], start[key])}
    assert any("cross_attention.linear_kv" in key for key in moved)


def test_video_files_are_tokenised_as_they_are_read(seen: Any, root: Path) -> None:
    found = losses(root, "videos")
    assert list(found) == [1, 2, 3] and found[1] == pytest.approx(math.log(64000), rel=0.2)


def test_video_files_bring_text_to_a_network_that_reads_it(seen: Any, root: Path) -> None:
    found = losses(root, "captioned")
    assert list(found) == [1, 2, 3] and found[1] == pytest.approx(math.log(64000), rel=0.2)
    run = json.loads((root / "p/g/captioned/run.json").read_text())
    assert (run["data"]["text_width"], run["data"]["text_length"]) == (8, 9)
    state, start = weights(root, "captioned", step=3), weights(root, "captioned_start", step=1)
    keys = [key for key in state if "cross_attention.linear_kv" in key and key.startswith("module.")]
    assert keys and all(not torch.equal(state[key], start[key]) for key in keys)


def test_adapters_train_and_the_network_below_them_does_not(seen: Any, root: Path) -> None:
    straight, lora = weights(root, "straight"), weights(root, "lora")
    adapters = {key for key in lora if ".lora_" in key and key.startswith("module.")}
    assert len(adapters) == 2 * 2 * 7
    assert all(torch.equal(lora[key], straight[key]) for key in straight if key.startswith("module."))
    assert all(torch.count_nonzero(lora[key]) for key in adapters)
    assert all(".lora_" in key for key in lora if key.startswith("optimizer.state.exp_avg."))


def test_adapters_are_merged_when_the_run_is_exported_or_continued_from(seen: Any, root: Path) -> None:
    base, merged = published(str(root), "straight"), published(str(root), "lora")
    assert base.keys() == merged.keys()
    changed = {key for key in base if not torch.equal(base[key], merged[key])}
    assert len(changed) == 2 * 7 and all(".w" in key for key in changed)
    first = next(row for row in rows(root, "from_lora") if "loss" in row)
    assert first["loss"] != losses(root, "lora")[1]


def test_what_does_not_fit_is_refused_in_one_line(seen: dict[str, Any]) -> None:
    expected = {
        "no_tokenizer": "set data.tokenizer_path to a video tokenizer that makes token ids",
        "odd_window": "data.window.height=60 must be a multiple of 16",
        "small_vocabulary": "vocab_size=6400; set data.tokenizer_path to the network's video tokenizer",
        "vocabulary": "token ids below 100, the network's vocabulary is model.config.vocab_size=90",
        "too_short": "clips of 2 latent frames, of which num_condition_latents_t=2 are given",
        "no_text": "has no text, the network reads text of width model.config.crossattn_emb_channels=8",
        "no_text_length": "data.text_length is not set",
        "text_width": "text embeddings of width 8, the network reads text of width model.config.crossattn_emb",
        "warm_up": "warm_up_steps=6 does not end within trainer.max_steps=6",
        "heads": "is of another model: num_layers 2 there, 3 here",
    }
    for name, words in expected.items():
        assert words in seen[name] and "\n" not in seen[name]


@pytest.mark.parametrize("name", PARALLEL)
def test_run_continues_at_another_parallel_size(seen_by_two: Any, root: Path, name: str) -> None:
    here, one = losses(root, name), losses(root, "straight")
    assert list(here) == [4, 5, 6]
    assert all(here[step] == pytest.approx(one[step], rel=1e-4) for step in here)


def test_adapters_continue_at_another_tensor_parallel_size(seen_by_two: Any, root: Path) -> None:
    here, one = losses(root, "lora_tensor2"), losses(root, "lora")
    assert all(here[step] == pytest.approx(one[step], rel=1e-4) for step in (4, 5, 6))


def test_parallel_sizes_that_do_not_divide_are_refused(seen_by_two: dict[str, Any]) -> None:
    assert "does not divide num_query_groups (1); use 1." in seen_by_two["heads"]
    assert "pipeline_model_parallel_size=2 does not divide num_layers (3); use 1 or 3" in seen_by_two["layers"]

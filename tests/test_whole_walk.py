"""The program's one sentence, command by command, as `make demo` says it.

videos -> a post-trained tokenizer -> shards -> training -> resume -> export -> video
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest
from PIL import Image
from safetensors import safe_open

pytestmark = pytest.mark.nemo

NUM_FRAMES, HEIGHT, WIDTH = 9, 48, 80


def command(*words: object, cwd: Path) -> str:
    """Runs one command as a user would and returns what it printed."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    result = subprocess.run([str(word) for word in words], cwd=cwd, env=env, capture_output=True, text=True)
    assert result.returncode == 0, f"{words} ended with {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("walk")


@pytest.fixture(scope="module")
def videos(folder, repo_root) -> Path:
    """The real clips of the shared folder where it exists, rendered scenes in a clone on its own."""
    shared = Path(os.environ.get("COSMOS_NEMO_SHARED_DIR", repo_root.parent / "shared")) / "videos"
    target = folder / "dataset"
    if not shared.is_dir():
        command(sys.executable, "-m", "data_prep", "sample", target, "--num-videos", 6, cwd=repo_root)
        return target
    (target / "videos").mkdir(parents=True)
    shutil.copytree(shared / "metas", target / "metas")
    for clip in shared.glob("*.mp4"):
        shutil.copy(clip, target / "videos" / clip.name)
    return target


@pytest.fixture(scope="module")
def tokenizer(folder, videos, repo_root) -> Path:
    """Two steps of the tiny tokenizer, exported."""
    raw = folder / "raw"
    words = ["shards", "--recipe", "cosmos_tokenizer_cv_tiny", "--input", videos, "--output", raw]
    command(sys.executable, "-m", "data_prep", *words, cwd=repo_root)
    words = [
        "cosmos-nemo",
        "recipe",
        "cosmos_tokenizer_cv_tiny",
        f"data.path={raw}",
        f"log.output_root={folder / 'out'}",
    ]
    command(*words, "trainer.max_steps=2", "data.window.height=32", "data.window.width=48", cwd=repo_root)
    run = folder / "out" / "posttraining" / "tokenizer" / "cosmos_tokenizer_cv_tiny"
    command("cosmos-nemo", "ckpt", "export", run, folder / "tokenizer", "--ema", cwd=repo_root)
    words = [folder / "tokenizer", videos / "videos", "--num-frames", NUM_FRAMES, "--max-videos", 2]
    command("cosmos-nemo", "latent-statistics", *words, cwd=repo_root)
    return folder / "tokenizer"


@pytest.fixture(scope="module")
def shards(folder, videos, tokenizer, repo_root) -> Path:
    prep = [sys.executable, "-m", "data_prep"]
    command(*prep, "tiny-text-encoder", folder / "text_encoder", "--captions", videos, cwd=repo_root)
    sizes = ["--num-frames", NUM_FRAMES, "--height", HEIGHT, "--width", WIDTH]
    encoders = ["--video-tokenizer", tokenizer, "--text-encoder", folder / "text_encoder"]
    output = folder / "shards"
    command(*prep, "shards", "--input", videos, "--output", output, *sizes, *encoders, cwd=repo_root)
    command(*prep, "verify", output, cwd=repo_root)
    return output


@pytest.fixture(scope="module")
def run_dir(folder, shards, repo_root) -> Path:
    words = ["cosmos-nemo", "recipe", "cosmos_v2w_tiny", f"data.path={shards}", f"log.output_root={folder / 'out'}"]
    words += ["log.project=p", "log.group=g", "log.name=n", "model.config.num_layers=2", "data.global_batch_size=2"]
    first = command(*words, "trainer.max_steps=2", cwd=repo_root)
    assert "random weights" in first
    second = command(*words, "trainer.max_steps=4", cwd=repo_root)
    assert "iter_000000002" in second, "the second run must say which checkpoint it continues"
    return folder / "out" / "p" / "g" / "n"


def test_prepared_clips_and_reasons_add_up(videos, shards):
    report = json.loads((shards / "report.json").read_text())
    counts, verdicts = report["counts"], report["verdicts"]
    assert counts["input"] == len(verdicts) == len(list((videos / "videos").iterdir()))
    assert counts["input"] == counts["used"] + counts["skipped"] + counts["unmatched"]
    assert all(verdict["reason"] for verdict in verdicts if verdict["status"] != "used")
    assert counts["used"] > 0


def test_run_has_all_steps_once_and_the_latest_pointer(run_dir):
    steps = [json.loads(line)["step"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4]
    assert (run_dir / "checkpoints" / "latest_checkpoint.txt").read_text().strip() == "iter_000000004"


def test_export_has_the_published_names(folder, run_dir, repo_root):
    target = folder / "model.safetensors"
    command("cosmos-nemo", "ckpt", "export", run_dir, target, cwd=repo_root)
    with safe_open(target, "pt") as file:
        names = set(file.keys())
    assert {"net.x_embedder.proj.1.weight", "net.blocks.1.self_attn.q_proj.weight"} <= names


def test_generate_writes_a_video_of_the_training_size_and_a_strip(folder, videos, run_dir, repo_root):
    clip = sorted((videos / "videos").glob("*.mp4"))[0]
    output, strip = folder / "generated.mp4", folder / "strip.png"
    words = ["--checkpoint", run_dir, "--input", clip, "--prompt", "a ball", "--num-steps", 3]
    words += ["--truth", clip, "--output", output, "--strip", strip, "--comparison", folder / "comparison.mp4"]
    command("cosmos-nemo", "generate", *words, cwd=repo_root)
    with av.open(str(output)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(frames) == NUM_FRAMES
    assert frames[0].shape == (HEIGHT, WIDTH, 3)
    assert Image.open(strip).size[0] > WIDTH

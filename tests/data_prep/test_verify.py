"""What is wrong with a dataset is found and named: shard, sample, field."""

import json
import shutil
from dataclasses import replace
from itertools import islice

import pytest
import torch
from typer.testing import CliRunner

from cosmos_nemo.data.latents import train_loader
from cosmos_nemo.data.manifest import read_manifest
from cosmos_nemo.data.schema import VideoSample
from cosmos_nemo.errors import UserError
from data_prep.__main__ import app
from data_prep.options import options_for
from data_prep.repair import repair
from data_prep.shards import make_shards
from data_prep.verify import verify
from tests.data.shards import TOKEN_SHAPE, VOCAB_SIZE, make_sample, make_tokens, write_dataset
from tests.data_prep.conftest import contents, samples_in

SHARDS = {
    "train-000000.tar": [make_sample(f"a{i}") for i in range(3)],
    "train-000001.tar": [make_sample(f"b{i}") for i in range(2)],
    "val-000000.tar": [make_sample("v0")],
}
TOKENS = {
    "task": "autoregressive",
    "kind": "tokens",
    "latent_shape": None,
    "latent_dtype": None,
    "token_shape": TOKEN_SHAPE,
    "vocab_size": VOCAB_SIZE,
}


def problems(folder, **options):
    return [(p.shard, p.sample, p.field, p.reason) for p in verify(folder, **options)]


def places(folder, **options):
    return [problem[:3] for problem in problems(folder, **options)]


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "set", SHARDS)


def test_a_whole_dataset_has_no_problems(dataset):
    assert problems(dataset) == []


@pytest.mark.parametrize(
    "kind", [{"samples": [make_tokens("t0"), make_tokens("t1")], **TOKENS}, {"samples": [make_sample("t0")]}]
)
def test_every_kind_of_sample_is_read(tmp_path, kind):
    samples = kind.pop("samples")
    assert problems(write_dataset(tmp_path / "set", {"train-000000.tar": samples}, **kind)) == []


def test_one_changed_byte_is_found(dataset):
    shard = dataset / "train-000001.tar"
    content = bytearray(shard.read_bytes())
    place = content.index(b"caption of b0")
    content[place] ^= 32  # another letter: everything can still be read
    shard.write_bytes(content)
    assert places(dataset) == [("train-000001.tar", "", "sha256")]


@pytest.mark.parametrize("kept", [0, 1, 511, 512, 1500, 5000, -512, -1024, -1025])
def test_a_truncated_shard_is_named_wherever_it_ends(dataset, kept):
    shard = dataset / "train-000001.tar"
    shard.write_bytes(shard.read_bytes()[:kept])
    found = places(dataset)
    assert {place[:2] for place in found} == {("train-000001.tar", "")}
    assert "bytes" in {place[2] for place in found}


def test_a_missing_shard_a_foreign_shard_and_a_missing_index_are_named(dataset):
    (dataset / "train-000000.tar").rename(dataset / "train-000007.tar")
    (dataset / ".nv-meta" / ".info.json").unlink()
    assert places(dataset) == [
        ("train-000000.tar", "", "file"),
        ("train-000007.tar", "", "manifest"),
        ("", "", ".nv-meta"),
    ]


@pytest.mark.parametrize("part", ["json", "latent.safetensors", "text.safetensors"])
def test_a_damaged_part_is_named(tmp_path, part):
    def damage(sample, parts):
        return parts | {part: parts[part][:20]} if sample.key == "a1" else parts

    folder = write_dataset(tmp_path / "set", SHARDS, change=damage)
    assert places(folder) == [("train-000000.tar", "a1", part)]


@pytest.mark.parametrize(
    ("sample", "kind", "field", "reason"),
    [
        (
            make_sample("x", latent_shape=(16, 3, 4, 6)),
            {},
            "latent.safetensors",
            "(16, 3, 4, 6), the manifest says (16, 2, 4, 6)",
        ),
        (make_sample("x", text_width=9), {}, "text.safetensors", "9, the manifest says 8"),
        (
            replace(make_sample("x"), latent_C_T_H_W=torch.zeros(16, 2, 4, 6)),
            {},
            "latent.safetensors",
            "float32, the manifest says bfloat16",
        ),
        (
            replace(make_sample("x"), info=replace(make_sample("x").info, fps=24.0)),
            {},
            "json fps",
            "24.0, the manifest says 12.0",
        ),
        (make_tokens("x", shape=(1, 4, 6)), TOKENS, "tokens.safetensors", "(1, 4, 6), the manifest says (2, 4, 6)"),
        (make_tokens("x", text_width=None), TOKENS, "text.safetensors", "None, the manifest says 8"),
        (
            replace(make_tokens("x"), tokens_T_H_W=torch.full(TOKEN_SHAPE, VOCAB_SIZE, dtype=torch.int32)),
            TOKENS,
            "tokens.safetensors",
            "ids from 100 to 100, the vocabulary has 100",
        ),
    ],
)
def test_a_sample_that_is_not_what_the_manifest_says_is_named(tmp_path, sample, kind, field, reason):
    folder = write_dataset(tmp_path / "set", {"train-000000.tar": [sample]}, **kind)
    assert problems(folder) == [("train-000000.tar", "x", field, reason)]


def test_a_key_that_is_used_twice_is_named(tmp_path):
    folder = write_dataset(
        tmp_path / "set", {"train-000000.tar": [make_sample("a")], "val-000000.tar": [make_sample("b")]}
    )
    shutil.copy(folder / "train-000000.tar", folder / "val-000000.tar")  # Energon does not index such a dataset itself
    manifest = read_manifest(folder)
    first = manifest.shards[0]
    replace(manifest, shards=(first, replace(first, name="val-000000.tar", split="val"))).write(folder)
    assert places(folder) == [("val-000000.tar", "a", "key")]


def test_raw_video_is_decoded(clips, tmp_path):
    make_shards(options_for("tokenizer", None, input=clips, output=tmp_path / "out", num_frames=5))
    assert problems(tmp_path / "out") == []
    content = (clips / "videos" / "clip0.mp4").read_bytes()
    first, last = content.index(b"mdat"), content.rindex(b"moov")
    start, count = first + (last - first) // 2, (last - first) // 3  # frames in the middle
    broken = content[:start] + b"\0" * count + content[start + count :]
    samples = [VideoSample(key="1", media=broken), VideoSample(key="2", media=b"no video")]
    nothing = {"num_frames": None, "height": None, "width": None, "fps": None, "text_width": None}
    raw = {"task": "tokenizer", "kind": "video", "latent_shape": None, "latent_dtype": None, **nothing}
    folder = write_dataset(tmp_path / "set", {"train-000000.tar": samples}, **raw)
    assert places(folder) == [("train-000000.tar", "1", "mp4"), ("train-000000.tar", "2", "mp4")]
    assert places(folder, decode=False) == [("train-000000.tar", "2", "mp4")]


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def test_the_command_tells_all_and_exits_with_1(dataset):
    good = run("verify", dataset)
    assert (good.exit_code, "6 samples in 3 shards, all as the manifest says" in good.output) == (0, True)
    (dataset / "val-000000.tar").write_bytes(b"")
    bad = run("verify", dataset)
    assert bad.exit_code == 1
    assert "val-000000.tar" in bad.output and "problems in 1 shards" in bad.output


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"manifest.json is missing"):
        run("verify", tmp_path)


def test_info_says_what_a_dataset_is(dataset):
    lines = run("info", dataset).output.splitlines()
    assert "samples          5 train, 1 val" in lines
    assert "latent shape     16 x 2 x 4 x 6" in lines
    facts = json.loads(run("info", dataset, "--json", "--buckets").output)
    assert (facts["task"], facts["bytes"]) == (
        "video2world",
        sum(shard.bytes for shard in read_manifest(dataset).shards),
    )
    assert facts["buckets"] == {"unknown": 6}
    assert facts["video_tokenizer"]["here"] is False


def damage_some(sample, parts):
    return parts | {"json": b"{"} if sample.key in ("a1", "v0") else parts


def test_a_repaired_dataset_is_whole_and_has_lost_no_more_than_it_must(tmp_path):
    folder = write_dataset(tmp_path / "set", SHARDS | {"val-000001.tar": [make_sample("v1")]}, change=damage_some)
    shard = folder / "train-000001.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[: content.index(b"b1.latent") + 700])  # in the middle of the second sample
    with pytest.raises(UserError, match=r"train-000001.tar has .* or train on the rest after .*verify .*set --repair"):
        train_loader(folder)
    assert run("verify", folder).exit_code == 1
    repaired = run("verify", folder, "--repair")
    assert "3 samples left out, the rest is a whole dataset" in repaired.output
    assert problems(folder) == []
    assert set(samples_in(folder)) == {"a0", "a2", "b0", "v1"}
    manifest = read_manifest(folder)
    assert manifest.options["lost"] == {"train-000000.tar": 1, "train-000001.tar": 1, "val-000000.tar": 1}
    assert sum(shard.samples for shard in manifest.shards) + 3 == 7
    keys = {key for batch in islice(iter(train_loader(folder, text_length=4)), 3) for key in batch.keys}
    assert keys == {"a0", "a2", "b0"}
    assert "0 samples left out" in run("verify", folder, "--repair").output


def test_an_interrupted_repair_is_completed_by_the_next(tmp_path, monkeypatch):
    folder = write_dataset(tmp_path / "set", SHARDS, change=damage_some)

    def die(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("data_prep.repair.index_for_energon", die)
        with pytest.raises(KeyboardInterrupt):
            repair(folder)
    with pytest.raises(UserError, match=r"manifest.json is missing"):
        run("verify", folder)
    assert repair(folder) == {"train-000000.tar": 1, "val-000000.tar": 1}
    assert problems(folder) == []
    assert set(samples_in(folder)) == {"a0", "a2", "b0", "b1"}


def test_a_dataset_of_which_nothing_is_left_is_not_touched(tmp_path):
    folder = write_dataset(tmp_path / "set", SHARDS, change=lambda sample, parts: parts | {"json": b"{"})
    before = contents(folder)
    with pytest.raises(UserError, match=r"no train sample of .*set can be read; prepare it again"):
        repair(folder)
    assert contents(folder) == before


def test_a_repaired_shard_is_made_again_from_its_sources(clips, tmp_path):
    chosen = options_for("tokenizer", None, input=clips, output=tmp_path / "out", num_frames=5, samples_per_shard=2)
    make_shards(chosen)
    before = contents(chosen.output)
    shard = chosen.output / "000001.tar"
    shard.write_bytes(shard.read_bytes()[:5000])
    repair(chosen.output)
    assert read_manifest(chosen.output).num_samples("train") < 5
    make_shards(chosen)
    assert contents(chosen.output) == before

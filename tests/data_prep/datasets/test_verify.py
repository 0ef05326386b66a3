"""What is wrong with a dataset is found and named: shard, sample, field."""

import shutil
from dataclasses import replace

import pytest
import torch

from cosmos_nemo.data.manifest import read_manifest
from cosmos_nemo.data.schema import VideoSample
from cosmos_nemo.errors import UserError
from data_prep.making.options import options_for
from data_prep.making.shards import make_shards
from tests.data.shards import TOKEN_SHAPE, VOCAB_SIZE, make_sample, make_tokens, write_dataset
from tests.data_prep.datasets.cases import SHARDS, TOKENS, problems, run


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
            "(16, 3, 4, 6) instead of (16, 2, 4, 6) as in the manifest",
        ),
        (make_sample("x", text_width=9), {}, "text.safetensors", "9 instead of 8 as in the manifest"),
        (
            replace(make_sample("x"), latent_C_T_H_W=torch.zeros(16, 2, 4, 6)),
            {},
            "latent.safetensors",
            "float32 instead of bfloat16 as in the manifest",
        ),
        (
            replace(make_sample("x"), info=replace(make_sample("x").info, fps=24.0)),
            {},
            "json fps",
            "24.0 instead of 12.0 as in the manifest",
        ),
        (
            make_tokens("x", shape=(1, 4, 6)),
            TOKENS,
            "tokens.safetensors",
            "(1, 4, 6) instead of (2, 4, 6) as in the manifest",
        ),
        (make_tokens("x", text_width=None), TOKENS, "text.safetensors", "None instead of 8 as in the manifest"),
        (
            replace(make_tokens("x"), tokens_T_H_W=torch.full(TOKEN_SHAPE, VOCAB_SIZE, dtype=torch.int32)),
            TOKENS,
            "tokens.safetensors",
            "ids from 100 to 100, but the vocabulary has 100",
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


def test_the_command_tells_all_and_exits_with_1(dataset):
    good = run("verify", dataset)
    assert (good.exit_code, "6 samples in 3 shards, all as in the manifest" in good.output) == (0, True)
    (dataset / "val-000000.tar").write_bytes(b"")
    bad = run("verify", dataset)
    assert bad.exit_code == 1
    assert "val-000000.tar" in bad.output and "problems in 1 shards" in bad.output


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"manifest.json is missing"):
        run("verify", tmp_path)

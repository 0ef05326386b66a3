"""The contract between writer and reader of shards."""

import json
from dataclasses import replace

import pytest
import torch

from cosmos_nemo.data.schema import (
    EncoderRef,
    Manifest,
    SampleError,
    ShardRecord,
    check_shards,
    from_parts,
    read_manifest,
    sample_id,
    to_parts,
)
from cosmos_nemo.errors import UserError
from tests.data.shards import make_sample


def make_manifest() -> Manifest:
    reference = EncoderRef(path="/encoders/vae", sha256="0" * 64)
    shard = ShardRecord(name="train-000000.tar", split="train", bytes=4, samples=3, sha256="1" * 64)
    return Manifest(
        task="video2world",
        num_frames=5,
        height=32,
        width=48,
        fps=12.0,
        latent_shape=(16, 2, 4, 6),
        latent_dtype="bfloat16",
        text_width=8,
        text_length=512,
        vae=reference,
        text_encoder=reference,
        seed=0,
        shards=(shard, replace(shard, name="val-000000.tar", split="val", samples=2)),
    )


def test_a_sample_survives_the_round_trip_bit_for_bit():
    sample = make_sample("clip_000")
    copy = from_parts("clip_000", to_parts(sample))
    assert copy.info == sample.info
    assert torch.equal(copy.latent_C_T_H_W, sample.latent_C_T_H_W)
    assert torch.equal(copy.text_L_E, sample.text_L_E)
    assert copy.latent_C_T_H_W.dtype == copy.text_L_E.dtype == torch.bfloat16


def test_equal_samples_have_equal_bytes():
    assert to_parts(make_sample("clip")) == to_parts(make_sample("clip"))


def test_parts_follow_each_other_by_name():
    assert list(to_parts(make_sample("clip"))) == ["json", "latent.safetensors", "text.safetensors"]


@pytest.mark.parametrize("part", ["json", "latent.safetensors", "text.safetensors"])
def test_a_missing_part_is_named(part):
    parts = to_parts(make_sample("clip"))
    del parts[part]
    with pytest.raises(SampleError, match=f"'clip' has no part '{part}'"):
        from_parts("clip", parts)


@pytest.mark.parametrize("part", ["json", "latent.safetensors", "text.safetensors"])
@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"\xff" * len(b)])
def test_a_damaged_part_is_named(part, damage):
    parts = to_parts(make_sample("clip"))
    parts[part] = damage(parts[part])
    with pytest.raises(SampleError, match=part):
        from_parts("clip", parts)


def test_values_that_are_not_finite_are_refused():
    sample = make_sample("clip")
    sample.latent_C_T_H_W[0, 0, 0, 0] = float("nan")
    with pytest.raises(SampleError, match="not finite"):
        from_parts("clip", to_parts(sample))


def test_another_schema_version_is_refused():
    parts = to_parts(make_sample("clip"))
    parts["json"] = json.dumps({**json.loads(parts["json"]), "schema_version": 99}).encode()
    with pytest.raises(SampleError, match="schema version 99"):
        from_parts("clip", parts)


def test_sample_ids_are_stable_and_fit_an_int64():
    assert sample_id("clip_000") == 4562271133550287367
    ids = {sample_id(f"clip_{i}") for i in range(1000)}
    assert len(ids) == 1000
    assert torch.tensor(sorted(ids), dtype=torch.int64).min() >= 0


def test_a_manifest_survives_the_round_trip(tmp_path):
    manifest = make_manifest()
    manifest.write(tmp_path)
    assert read_manifest(tmp_path) == manifest
    assert read_manifest(tmp_path / "manifest.json") == manifest
    assert (manifest.num_samples("train"), manifest.num_samples("val")) == (3, 2)
    assert [file.name for file in tmp_path.iterdir()] == ["manifest.json"]


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"is not a prepared dataset: manifest.json is missing"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "cannot be read"), ("{}", "schema_version None"), ('{"schema_version": 1}', "cannot be read")],
)
def test_a_broken_manifest_is_refused(tmp_path, content, message):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_manifest(tmp_path)


def test_missing_and_truncated_shards_are_named(tmp_path):
    manifest = make_manifest()
    with pytest.raises(UserError, match=r"train-000000.tar is missing"):
        check_shards(tmp_path, manifest)
    (tmp_path / "train-000000.tar").write_bytes(b"123")
    with pytest.raises(UserError, match=r"train-000000.tar has 3 bytes, manifest.json says 4"):
        check_shards(tmp_path, manifest)
    for shard in manifest.shards:
        (tmp_path / shard.name).write_bytes(b"1234")
    with pytest.raises(UserError, match="no Energon index"):
        check_shards(tmp_path, manifest)

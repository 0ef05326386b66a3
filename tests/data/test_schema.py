"""The contract between writer and reader of shards."""

import json
from dataclasses import replace

import pytest
import torch

from cosmos_nemo.data.manifest import EncoderRef, Manifest, ShardRecord, check_shards, read_manifest
from cosmos_nemo.data.schema import (
    DiffusionSample,
    SampleError,
    TokenSample,
    VideoSample,
    from_parts,
    sample_id,
    to_parts,
)
from cosmos_nemo.errors import UserError
from tests.data.shards import make_sample, make_tokens


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
        video_tokenizer=reference,
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


def test_samples_of_the_first_version_are_read():
    parts = to_parts(make_sample("clip"))
    parts["json"] = json.dumps({**json.loads(parts["json"]), "schema_version": 1}).encode()
    assert from_parts("clip", parts).info == make_sample("clip").info


@pytest.mark.parametrize("text_width", [8, None])
def test_token_samples_survive_the_round_trip(text_width):
    sample = make_tokens("clip_000", text_width=text_width)
    parts = to_parts(sample)
    copy = from_parts("clip_000", parts, TokenSample)
    assert list(parts) == ["json", *(["text.safetensors"] if text_width else []), "tokens.safetensors"]
    assert copy.info == sample.info
    assert torch.equal(copy.tokens_T_H_W, sample.tokens_T_H_W)
    assert copy.tokens_T_H_W.dtype == torch.int32
    assert (copy.text_L_E is None) if text_width is None else torch.equal(copy.text_L_E, sample.text_L_E)


def test_token_ids_of_another_type_are_refused():
    sample = replace(make_tokens("clip"), tokens_T_H_W=torch.zeros(2, 2, 2))
    with pytest.raises(SampleError, match=r"'tokens.safetensors' holds torch.float32, int32 expected"):
        from_parts("clip", to_parts(sample), TokenSample)


def test_a_bare_mp4_is_a_sample():
    sample = from_parts("1", {"mp4": b"video"}, VideoSample)
    assert sample == VideoSample(key="1", media=b"video")
    assert (sample.caption, sample.media_part, sample.text_L_E) == ("", "mp4", None)


def test_video_samples_survive_the_round_trip():
    like = make_sample("clip")
    sample = VideoSample(key="clip", media=b"picture", media_part="jpg", text_L_E=like.text_L_E, info=like.info)
    parts = to_parts(sample)
    copy = from_parts("clip", parts, VideoSample)
    assert list(parts) == ["jpg", "json", "text.safetensors"]
    assert (copy.media, copy.media_part, copy.caption) == (b"picture", "jpg", "caption of clip")
    assert torch.equal(copy.text_L_E, like.text_L_E)


def test_samples_of_another_kind_are_refused_by_the_part_they_lack():
    with pytest.raises(SampleError, match="has none of the parts mp4, jpg, jpeg, png"):
        from_parts("clip", to_parts(make_tokens("clip")), VideoSample)
    with pytest.raises(SampleError, match=r"has no part 'tokens.safetensors'"):
        from_parts("clip", to_parts(make_sample("clip")), TokenSample)
    with pytest.raises(SampleError, match=r"has no part 'latent.safetensors'"):
        from_parts("clip", to_parts(make_tokens("clip")), DiffusionSample)
    with pytest.raises(SampleError, match="part 'mp4' is empty"):
        from_parts("clip", {"mp4": b""}, VideoSample)


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


def test_a_manifest_of_the_first_version_is_read(tmp_path):
    content = json.loads(make_manifest().to_json())
    content["schema_version"], content["vae"] = 1, content.pop("video_tokenizer")
    for name in ("kind", "token_shape", "vocab_size"):
        del content[name]
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    assert read_manifest(tmp_path) == make_manifest()


def test_a_manifest_of_raw_video_says_only_what_applies(tmp_path):
    manifest = Manifest(
        task="tokenizer", kind="video", num_frames=None, height=None, width=None, fps=None, seed=0, shards=()
    )
    manifest.write(tmp_path)
    assert read_manifest(tmp_path) == manifest


@pytest.mark.parametrize("change", [{"task": "video2vorld"}, {"kind": "pictures"}])
def test_words_that_no_reader_knows_are_refused(change):
    (word,) = change.values()
    with pytest.raises(ValueError, match=f"'{word}' is none of"):
        replace(make_manifest(), **change)


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

"""Datasets made of others: merged, split anew, blended."""

from dataclasses import replace
from itertools import islice

import pytest
from typer.testing import CliRunner

from cosmos_nemo.data.latents import train_loader
from cosmos_nemo.data.manifest import EncoderRef, read_manifest
from cosmos_nemo.data.schema import to_parts
from cosmos_nemo.errors import UserError
from data_prep.__main__ import app
from data_prep.reading import read_dataset
from data_prep.rebuild import merge, split_again
from data_prep.verify import verify
from tests.data.shards import make_sample, write_dataset
from tests.data_prep.conftest import contents, samples_in


def with_source(key, source):
    sample = make_sample(key)
    return replace(sample, info=replace(sample.info, source=source))


def write_set(folder, name, num_train=4, num_val=2, **manifest):
    def samples(split, count):
        return [with_source(f"{name}{split}{i}", f"videos/{name}{split}{i // 2}.mp4") for i in range(count)]

    shards = {"train-000000.tar": samples("t", num_train), "val-000000.tar": samples("v", num_val)}
    return write_dataset(folder / name, shards, **manifest)


def bytes_of(folder):
    return {key: to_parts(sample) for key, sample in samples_in(folder).items()}


def test_merged_datasets_hold_the_samples_of_both(tmp_path):
    a, b = write_set(tmp_path, "a"), write_set(tmp_path, "b")
    before = contents(a)
    manifest, notes = merge([a, b], tmp_path / "c")
    assert notes == []
    assert bytes_of(tmp_path / "c") == bytes_of(a) | bytes_of(b)
    assert (manifest.num_samples("train"), manifest.num_samples("val")) == (8, 4)
    assert read_manifest(tmp_path / "c") == manifest
    assert list(verify(tmp_path / "c")) == []
    keys = [key for batch in islice(iter(train_loader(tmp_path / "c", text_length=4)), 8) for key in batch.keys]
    assert sorted(keys) == sorted(f"{name}t{i}" for name in "ab" for i in range(4))
    assert contents(a) == before


def test_keys_that_both_use_are_kept_apart(tmp_path):
    a = write_set(tmp_path, "a")
    (tmp_path / "other").mkdir()
    b = write_set(tmp_path / "other", "a")
    manifest, notes = merge([a, b], tmp_path / "c")
    assert notes == [f"keys of {b} were in use and now begin with d1_"]
    assert set(samples_in(tmp_path / "c")) == {f"{p}{k}" for p in ("", "d1_") for k in samples_in(a)}
    assert manifest.num_samples("train") == 8
    assert list(verify(tmp_path / "c")) == []


def test_a_video_on_both_sides_is_told_of_and_a_new_split_mends_it(tmp_path):
    a = write_set(tmp_path, "a", sources={"videos/at0.mp4": "same", "videos/at1.mp4": "1", "videos/av0.mp4": "2"})
    b = write_set(tmp_path, "b", sources={"videos/bv0.mp4": "same", "videos/bt0.mp4": "3", "videos/bt1.mp4": "4"})
    _, notes = merge([a, b], tmp_path / "c")
    assert len(notes) == 1
    assert "1 source files are for training in one dataset and held out in another" in notes[0]
    seen = set()
    for seed in range(4):
        manifest = split_again(tmp_path / "c", tmp_path / f"d{seed}", val=0.4, seed=seed)
        sides = {raw.key: raw.shard.split for raw in read_dataset(tmp_path / f"d{seed}", manifest)}
        assert len({sides[key] for key in ("at0", "at1", "bv0", "bv1")}) == 1
        seen.add(sides["at0"])
    assert seen == {"train", "val"}


def test_only_datasets_that_were_prepared_alike_are_merged(tmp_path):
    a = write_set(tmp_path, "a")
    b = write_set(tmp_path, "b", video_tokenizer=EncoderRef(path="none", sha256="other"))
    with pytest.raises(UserError, match="cannot be mixed: video tokenizer"):
        merge([a, b], tmp_path / "c")
    with pytest.raises(UserError, match="at least two"):
        merge([a], tmp_path / "c")
    with pytest.raises(UserError, match=r"--output .*/a exists"):
        merge([a, write_set(tmp_path, "d")], a)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["a", "b", "d"]


def test_a_new_split_holds_out_whole_videos_and_loses_nothing(tmp_path):
    a = write_set(tmp_path, "a", num_train=14, num_val=2)
    manifest = split_again(a, tmp_path / "b", val=0.25, seed=3, samples_per_shard=5)
    assert (manifest.num_samples("train"), manifest.num_samples("val")) == (12, 4)
    assert [shard.samples for shard in manifest.shards] == [5, 5, 2, 4]
    assert bytes_of(tmp_path / "b") == bytes_of(a)
    assert list(verify(tmp_path / "b")) == []
    train = {key for batch in islice(iter(train_loader(tmp_path / "b", text_length=4)), 12) for key in batch.keys}
    videos = {sample.info.source for key, sample in samples_in(a).items() if key in train}
    held_out = {sample.info.source for key, sample in samples_in(a).items() if key not in train}
    assert (len(videos), len(held_out), videos & held_out) == (6, 2, set())


def test_a_new_split_is_decided_by_its_seed(tmp_path):
    a = write_set(tmp_path, "a", num_train=14)
    for name, seed in (("b", 1), ("c", 1), ("d", 2)):
        split_again(a, tmp_path / name, val=0.25, seed=seed)
    assert contents(tmp_path / "b") == contents(tmp_path / "c")
    assert contents(tmp_path / "b") != contents(tmp_path / "d")


@pytest.mark.parametrize(
    ("val", "size", "message"), [(1.0, 4, "below 1"), (-0.1, 4, "at least 0"), (0.1, 0, "least 1")]
)
def test_a_split_that_makes_no_sense_is_refused(tmp_path, val, size, message):
    with pytest.raises(UserError, match=message):
        split_again(write_set(tmp_path, "a"), tmp_path / "b", val=val, seed=0, samples_per_shard=size)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["a"]


def test_a_truncated_dataset_is_not_rebuilt(tmp_path):
    a, b = write_set(tmp_path, "a"), write_set(tmp_path, "b")
    (b / "val-000000.tar").write_bytes((b / "val-000000.tar").read_bytes()[:-512])
    with pytest.raises(UserError, match=r"val-000000.tar has .* truncated"):
        merge([a, b], tmp_path / "c")
    with pytest.raises(UserError, match=r"val-000000.tar has .* truncated"):
        split_again(b, tmp_path / "c", val=0.1, seed=0)


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def test_the_commands_say_what_they_made(tmp_path):
    a, b = write_set(tmp_path, "a"), write_set(tmp_path, "b")
    assert "8 train and 4 val samples" in run("merge", a, b, "--output", tmp_path / "c").output
    assert "10 train and 2 val samples" in run("split", tmp_path / "c", "--val", 0.1, "--output", tmp_path / "d").output
    blended = run("blend", f"{a}=3", b, "--output", tmp_path / "blend.yaml").output
    assert f" 75.0%  {a} (4 train samples)" in blended
    assert f"train with data.path={tmp_path / 'blend.yaml'}" in blended.replace("\n", "")
    assert "samples          8 train, 4 val" in run("info", tmp_path / "blend.yaml").output


@pytest.mark.parametrize(
    ("part", "output", "message"),
    [
        ("a=many", "b.yaml", "'many' is no weight"),
        ("a=0", "b.yaml", "a weight must be above 0"),
        ("a=3", "b.json", "must be a .yaml file"),
        ("gone=3", "b.yaml", "manifest.json is missing"),
    ],
)
def test_a_blend_that_makes_no_sense_is_refused(tmp_path, monkeypatch, part, output, message):
    write_set(tmp_path, "a")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        run("blend", part, "--output", output)

"""Merged datasets hold the samples of all."""

from itertools import islice

import pytest

from cosmos_nemo.data.manifest import EncoderRef, read_manifest
from cosmos_nemo.errors import UserError
from data_prep.datasets.merge import merge
from data_prep.datasets.reading import read_dataset
from data_prep.datasets.split import split_again
from data_prep.datasets.verify import verify
from tests.data.shards import train_loader
from tests.data_prep.conftest import contents, samples_in
from tests.data_prep.datasets.cases import bytes_of, write_set


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
    assert notes == [f"keys of {b} were taken already and now begin with d1_"]
    assert set(samples_in(tmp_path / "c")) == {f"{p}{k}" for p in ("", "d1_") for k in samples_in(a)}
    assert manifest.num_samples("train") == 8
    assert list(verify(tmp_path / "c")) == []


def test_a_video_on_both_sides_is_told_of_and_a_new_split_mends_it(tmp_path):
    a = write_set(tmp_path, "a", sources={"videos/at0.mp4": "same", "videos/at1.mp4": "1", "videos/av0.mp4": "2"})
    b = write_set(tmp_path, "b", sources={"videos/bv0.mp4": "same", "videos/bt0.mp4": "3", "videos/bt1.mp4": "4"})
    _, notes = merge([a, b], tmp_path / "c")
    assert len(notes) == 1
    assert "1 source files are trained on in one dataset and held out in another" in notes[0]
    seen = set()
    for seed in range(4):
        manifest = split_again(tmp_path / "c", tmp_path / f"d{seed}", val=0.4, seed=seed, samples_per_shard=32)
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


def test_a_truncated_dataset_is_not_rebuilt(tmp_path):
    a, b = write_set(tmp_path, "a"), write_set(tmp_path, "b")
    (b / "val-000000.tar").write_bytes((b / "val-000000.tar").read_bytes()[:-512])
    with pytest.raises(UserError, match=r"val-000000.tar has .* truncated"):
        merge([a, b], tmp_path / "c")
    with pytest.raises(UserError, match=r"val-000000.tar has .* truncated"):
        split_again(b, tmp_path / "c", val=0.1, seed=0, samples_per_shard=32)

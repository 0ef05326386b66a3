"""Several datasets as one."""

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from cosmos_nemo.data.blend import BlendPart, blend_text, open_blend, read_blend
from cosmos_nemo.data.manifest import EncoderRef, read_manifest
from cosmos_nemo.errors import UserError
from tests.data.shards import make_sample, train_loader, val_loader, write_dataset


def write_set(folder: Path, name: str, *, train: int, val: int, **manifest) -> Path:
    shards = {"train-000000.tar": [make_sample(f"{name}{i}") for i in range(train)]}
    if val:
        shards["val-000000.tar"] = [make_sample(f"{name}_val{i}") for i in range(val)]
    return write_dataset(folder / name, shards, **manifest)


def write_blend(folder: Path, **weights: float) -> Path:
    file = folder / "blend.yaml"
    file.write_text(blend_text(file, tuple(BlendPart(path=folder / n, weight=w) for n, w in weights.items())))
    return file


@pytest.fixture(scope="module")
def blend(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blend")
    write_set(folder, "a", train=6, val=5)
    write_set(folder, "b", train=3, val=2)
    return write_blend(folder, a=3, b=1)


def keys_of(loader, count=None):
    return [key for batch in islice(iter(loader), count) for key in batch.keys]


def test_datasets_are_drawn_from_by_weight(blend):
    origins = Counter(key[0] for key in keys_of(train_loader(blend, text_length=4), 400))
    assert 270 < origins["a"] < 330
    assert origins.total() == 400


def test_each_dataset_runs_through_its_own_epochs(blend):
    keys = keys_of(train_loader(blend, text_length=4), 100)
    for name, size in (("a", 6), ("b", 3)):
        mine = [key for key in keys if key[0] == name]
        assert set(mine[:size]) == {f"{name}{i}" for i in range(size)}


def test_a_restored_blend_goes_on_where_it_was_saved(blend):
    loader = train_loader(blend, text_length=4)
    stream = iter(loader)
    for _ in range(7):
        next(stream)
    state = loader.save_state_rank()
    expected = [next(stream).keys for _ in range(40)]
    restored = train_loader(blend, text_length=4)
    restored.restore_state_rank(state)
    assert [batch.keys for batch in islice(iter(restored), 40)] == expected


def test_validation_takes_every_sample_once(blend):
    loader = val_loader(blend, text_length=4)
    expected = [f"a_val{i}" for i in range(5)] + [f"b_val{i}" for i in range(2)]
    assert keys_of(loader) == expected
    assert keys_of(loader) == expected


def test_every_rank_validates_on_the_same_number_of_batches(blend):
    parts = [keys_of(val_loader(blend, text_length=4, dp_rank=rank, dp_size=2)) for rank in range(2)]
    assert [len(part) for part in parts] == [3, 3]
    assert not set(parts[0]) & set(parts[1])


def test_a_blend_has_the_manifest_of_all_its_datasets(blend):
    manifest = open_blend(blend)
    assert (manifest.num_samples("train"), manifest.num_samples("val")) == (9, 7)
    assert manifest.latent_shape == read_manifest(blend.parent / "a").latent_shape
    assert [part.weight for part in read_blend(blend)] == [3.0, 1.0]


def test_a_blend_moves_with_its_datasets(blend, tmp_path):
    (tmp_path / "elsewhere").symlink_to(blend.parent)
    assert open_blend(tmp_path / "elsewhere" / "blend.yaml").num_samples("train") == 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_width": 9}, "text width is 8 there, 9 here"),
        ({"latent_shape": (16, 3, 4, 6)}, r"latent shape is \(16, 2, 4, 6\) there, \(16, 3, 4, 6\) here"),
        ({"video_tokenizer": EncoderRef(path="none", sha256="other")}, "video tokenizer is  there, other here"),
    ],
)
def test_datasets_that_cannot_be_mixed_are_refused(tmp_path, change, message):
    write_set(tmp_path, "a", train=2, val=0)
    write_set(tmp_path, "b", train=2, val=0, **change)
    with pytest.raises(UserError, match=f"/a and .*/b cannot be mixed: {message}"):
        open_blend(write_blend(tmp_path, a=1, b=1))


def test_an_encoder_that_lies_elsewhere_is_the_same_encoder(tmp_path):
    write_set(tmp_path, "a", train=2, val=0)
    write_set(tmp_path, "b", train=2, val=0, text_encoder=EncoderRef(path="/moved", sha256=""))
    write_set(tmp_path, "c", train=2, val=0, text_encoder=None)
    assert open_blend(write_blend(tmp_path, a=1, b=1, c=1)).num_samples("train") == 6


def test_a_truncated_shard_of_a_blend_is_named(tmp_path):
    for name in "ab":
        write_set(tmp_path, name, train=2, val=0)
    file = write_blend(tmp_path, a=1, b=1)
    shard = tmp_path / "b" / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(UserError, match=r"b/train-000000.tar has .* it is truncated"):
        train_loader(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no blend of datasets"),
        ("[]", "is no blend of datasets"),
        ("splits: {train: {blend: []}}", "blends nothing"),
        ("splits: {train: {blend: [{path: gone}]}}", "names the dataset .*/gone, which does not exist"),
    ],
)
def test_a_file_that_is_no_blend_is_refused(tmp_path, text, message):
    (tmp_path / "blend.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_blend(tmp_path / "blend.yaml")


def test_a_dataset_without_train_samples_is_refused(tmp_path):
    write_set(tmp_path, "a", train=2, val=0)
    folder = write_set(tmp_path, "b", train=2, val=0)
    manifest = read_manifest(folder)
    replace(manifest, shards=tuple(replace(s, split="val") for s in manifest.shards)).write(folder)
    with pytest.raises(UserError, match="b has no train samples; leave it out"):
        open_blend(write_blend(tmp_path, a=1, b=1))

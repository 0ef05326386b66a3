"""Samples are read back one at a time, and a shard that ends early says so after what can be read."""

import pytest

from cosmos_nemo.data.manifest import read_manifest
from cosmos_nemo.errors import UserError
from data_prep.datasets.reading import read_dataset, read_shard, split_name
from tests.data.shards import make_sample, write_dataset
from tests.data_prep.datasets.cases import SHARDS


@pytest.mark.parametrize(
    ("member", "expected"),
    [("a.json", ("a", "json")), ("a.b.c", ("a", "b.c")), ("x/y.z/a.mp4", ("x/y.z/a", "mp4")), ("a", ("a", ""))],
)
def test_names_are_cut_as_energon_cuts_them(member, expected):
    assert split_name(member) == expected


def test_samples_come_in_order_and_by_split(tmp_path):
    folder = write_dataset(tmp_path / "set", SHARDS)
    manifest = read_manifest(folder)
    assert [raw.key for raw in read_dataset(folder, manifest)] == ["a0", "a1", "a2", "b0", "b1", "v0"]
    assert [raw.key for raw in read_dataset(folder, manifest, "val")] == ["v0"]
    raw = next(iter(read_dataset(folder, manifest)))
    assert raw.source == raw.read(manifest).info.source == make_sample("a0").info.source


@pytest.mark.parametrize("lost", [512, 1024, 3000])
def test_a_shard_that_ends_early_gives_what_it_has_and_then_fails(tmp_path, lost):
    folder = write_dataset(tmp_path / "set", SHARDS)
    shard = read_manifest(folder).shards[0]
    file = folder / shard.name
    content = file.read_bytes()
    end = content.rstrip(b"\0")
    file.write_bytes(content[: len(end) - lost] if lost > 1024 else content[: len(end)])
    keys = []
    with pytest.raises(UserError, match=rf"shard .*{shard.name} cannot be read after sample"):
        for raw in read_shard(folder, shard):
            keys.append(raw.key)
    assert keys[:2] == ["a0", "a1"]

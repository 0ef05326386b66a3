"""What can be read of a damaged dataset becomes a whole one."""

from itertools import islice

import pytest

from cosmos_nemo.data.manifest import read_manifest
from cosmos_nemo.errors import UserError
from data_prep.datasets.repair import repair
from data_prep.making.options import options_for
from data_prep.making.shards import make_shards
from tests.data.shards import make_sample, train_loader, write_dataset
from tests.data_prep.conftest import contents, samples_in
from tests.data_prep.datasets.cases import SHARDS, damage_some, problems, run


def test_a_repaired_dataset_is_whole_and_has_lost_no_more_than_it_must(tmp_path):
    folder = write_dataset(tmp_path / "set", SHARDS | {"val-000001.tar": [make_sample("v1")]}, change=damage_some)
    shard = folder / "train-000001.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[: content.index(b"b1.latent") + 700])  # in the middle of the second sample
    with pytest.raises(UserError, match=r"train-000001.tar has .* or train on the rest after .*verify .*set --repair"):
        train_loader(folder)
    assert run("verify", folder).exit_code == 1
    repaired = run("verify", folder, "--repair")
    assert "3 samples removed, the rest is a whole dataset" in repaired.output
    assert problems(folder) == []
    assert set(samples_in(folder)) == {"a0", "a2", "b0", "v1"}
    manifest = read_manifest(folder)
    assert manifest.options["lost"] == {"train-000000.tar": 1, "train-000001.tar": 1, "val-000000.tar": 1}
    assert sum(shard.samples for shard in manifest.shards) + 3 == 7
    keys = {key for batch in islice(iter(train_loader(folder, text_length=4)), 3) for key in batch.keys}
    assert keys == {"a0", "a2", "b0"}
    assert "0 samples removed" in run("verify", folder, "--repair").output


def test_an_interrupted_repair_is_completed_by_the_next(tmp_path, monkeypatch):
    folder = write_dataset(tmp_path / "set", SHARDS, change=damage_some)

    def die(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("data_prep.datasets.repair.index_for_energon", die)
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

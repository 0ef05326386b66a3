"""The data module of every family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cosmos_nemo.data.window import ClipWindow
from cosmos_nemo.errors import UserError
from cosmos_nemo.lightning.data import EnergonDataModule
from tests.data.shards import make_sample, write_dataset

TRAIN = {"train-000000.tar": [make_sample(f"a{i}") for i in range(3)]}
VAL = {"val-000000.tar": [make_sample("v0")]}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "set", TRAIN | VAL)


def reading(data: EnergonDataModule, seed: int) -> Any:
    data.open("latent", seed=seed)
    return data.reading


def test_seed_is_the_runs_unless_there_is_one_of_its_own(shards: Path) -> None:
    assert reading(EnergonDataModule(str(shards)), 5).seed == 5
    assert reading(EnergonDataModule(str(shards), seed=0), 5).seed == 0


def test_resumed_run_keeps_the_seed_it_has(shards: Path) -> None:
    from cosmos_nemo.data.dataset import dataset_digest

    saved = {"dataset": dataset_digest(shards), "seed": 3, "step": 2, "consumed_samples": 4, "readers": []}
    for own, expected in ((None, 3), (7, 7)):
        data = EnergonDataModule(str(shards), seed=own)
        data.open("latent", seed=5)
        data.load_state_dict(saved)
        assert data.reading is not None and data.reading.seed == expected


def test_validation_is_looked_at_where_it_differs_from_training(shards: Path, tmp_path: Path) -> None:
    other = write_dataset(tmp_path / "other", VAL)
    alone = EnergonDataModule(str(shards)).open("latent", seed=0)
    assert [(d.field, d.num_train, d.num_val) for d in alone] == [("data.path", 3, 1)]
    both = EnergonDataModule(str(shards), val_path=str(other)).open("latent", seed=0)
    assert [(d.field, d.num_val) for d in both] == [("data.path", 1), ("data.val_path", 1)]
    windows = EnergonDataModule(str(shards), val_window=ClipWindow()).open("latent", seed=0)
    assert [d.field for d in windows] == ["data.path", "data.path"]


def test_paths_that_cannot_be_trained_on_are_named(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.path is not set; give the folder"):
        EnergonDataModule().open("latent", seed=0)
    with pytest.raises(UserError, match=r"data.val_path=nowhere does not exist"):
        EnergonDataModule(str(shards), val_path="nowhere").open("latent", seed=0)
    with pytest.raises(UserError, match="has no train samples"):
        EnergonDataModule(str(write_dataset(tmp_path / "val", VAL))).open("latent", seed=0)

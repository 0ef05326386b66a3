"""run.json: the record of today, and the files that earlier versions wrote."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cosmos_nemo import families
from cosmos_nemo.data.manifest import EncoderRef
from cosmos_nemo.diffusion import objective_from_json
from cosmos_nemo.errors import UserError
from cosmos_nemo.runs.record import RunData, RunRecord, differences, from_json, read_record

OLD = Path(__file__).parent.parent / "data_files/run_records"
TRAINED = ("predict2", "predict2_first", "autoregressive", "autoregressive_lora", "cosmos_tokenizer")
IMPORTED = ("predict2_imported", "predict2_first_imported", "autoregressive_imported", "cosmos_tokenizer_imported")
TOKENIZER = EncoderRef(path="/encoders/tokenizer", sha256="ab" * 32)

RUN = RunRecord(
    family="predict2",
    task="video2world",
    model={"num_layers": 2, "video_condition": True},
    recipe="cosmos_v2w_tiny",
    objective={"kind": "predict2", "state_t": 5},
    lora={"rank": 4, "targets": ("q", "v")},
    averaging={"decay": None, "rate": 0.1},
    seed=0,
    initial_weights="/weights/model.pt",
    data=RunData(path="/shards", num_frames=17, latent_shape=(16, 5, 4, 6), video_tokenizer=TOKENIZER),
    optimizer={"lr": 1e-3, "max_steps": 10},
    precision="32-true",
)


def old(name: str) -> tuple[dict, RunRecord]:
    """A file that an earlier version wrote, as it is and as it is read."""
    content = json.loads((OLD / f"{name}.json").read_text())
    return content, from_json(content, source=f"{name}.json")


def test_every_old_file_is_tested():
    assert sorted(file.stem for file in OLD.glob("*.json")) == sorted(TRAINED + IMPORTED)


def test_a_record_is_what_it_was_once_it_is_read_back(tmp_path):
    RUN.write(tmp_path)
    found = read_record(tmp_path)
    assert found == replace(RUN, lora={"rank": 4, "targets": ["q", "v"]})
    assert found.to_json() == RUN.to_json() and found.to_json()["format"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_folder_without_run_json_has_no_record(tmp_path):
    assert read_record(tmp_path) is None


@pytest.mark.parametrize("name", TRAINED + IMPORTED)
def test_old_files_are_read_as_networks_that_can_be_built(name):
    content, run = old(name)
    assert content.get("format", 1) == 1
    assert run.family == name.removesuffix("_imported").removesuffix("_first").removesuffix("_lora")
    network = families.recorded(run, source=name)
    assert network.task == run.task == content["task"]
    assert network.fields == {key: value for key, value in content["model"].items() if key != "family"}
    assert network.our_shapes()
    assert from_json(run.to_json(), source=name) == run, "an upgraded file is one of today's format"


@pytest.mark.parametrize("name", TRAINED)
def test_nothing_of_an_old_training_run_is_lost(name):
    content, run = old(name)
    for entry in ("recipe", "seed", "precision", "optimizer", "averaging", "lora"):
        assert getattr(run, entry) == content.get(entry), entry
    weights = [content.get(field) for field in ("dit_path", "ar_path", "jit_ckpt_pth")]
    assert run.initial_weights == next(filter(None, weights), None)
    objective = content.get("objective") or content["loss"]
    assert {**run.objective, "kind": "predict2"} == {"kind": "predict2", **objective}
    data = run.to_json()["data"]
    for key, value in content["data"].items():
        assert data["video_tokenizer" if key == "vae" else key] == value, key


@pytest.mark.parametrize("name", IMPORTED)
def test_an_old_import_says_what_it_is_from(name):
    content, run = old(name)
    assert run.imported_from == content["imported_from"] and run.ema == content.get("ema")
    assert run.objective is run.data is run.lora is None


def test_the_objective_of_an_old_run_can_be_made_again():
    for name in ("predict2", "predict2_first"):
        assert objective_from_json(old(name)[1].objective).state_t == 5


def test_the_first_version_called_the_video_tokenizer_vae():
    content, run = old("predict2_first")
    assert "vae" in content["data"] and "family" not in content
    assert run.data.video_tokenizer == TOKENIZER


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 3}, "has format 3, this version reads 1 and 2; update cosmos-nemo"),
        ({"family": None}, "run.json does not say the run's family"),
        ({"model": {}}, "run.json does not say the run's model"),
        ({"colour": "red"}, "entries that this version does not know: colour"),
        ({"data": {"num_frames": 9, "colour": "red"}}, "data has entries that this version does not know: colour"),
        ({"format": 1, "family": None, "task": "autoregressive"}, "does not say the run's family"),
    ],
)
def test_what_cannot_be_understood_is_named(change, message):
    with pytest.raises(UserError, match=message):
        from_json({**RUN.to_json(), **change}, source="run.json")


def test_a_family_that_is_not_known_is_never_taken_for_another():
    run = replace(RUN, family="made_up")
    with pytest.raises(UserError, match=r"run\.json names the family 'made_up'"):
        families.recorded(run, source="run.json")


def test_differences_are_said_in_both_directions_and_survive_json():
    assert differences({"a": [1, 2], "b": 1, "c": 0}, {"a": (1, 2), "b": 2, "d": 5}) == "b 1 there, 2 here"
    other = replace(RUN, family="autoregressive")
    assert RUN.model_differences(other) == "family autoregressive there, predict2 here"
    assert RUN.model_differences(RUN) == ""

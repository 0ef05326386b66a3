import json

import pytest

from cosmos_nemo.errors import UserError
from cosmos_nemo.runs.layout import (
    find_checkpoint,
    is_training_checkpoint,
    iteration_name,
    make_manifest,
    open_checkpoint,
)
from cosmos_nemo.runs.record import RunRecord

RUN = RunRecord(family="predict2", task="video2world", model={"num_layers": 2}, recipe="cosmos_v2w_tiny")


def write_iteration(run_dir, step):
    folder = run_dir / "checkpoints" / iteration_name(step)
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "__0_0.distcp").write_bytes(b"x" * 100)
    (folder / "weights" / ".metadata").write_bytes(b"y" * 10)
    manifest = make_manifest(folder, step=step, consumed_samples=4 * step)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def run_dir(tmp_path):
    run = tmp_path / "run"
    for step in (5, 10):
        write_iteration(run, step)
    (run / "run.json").write_text(json.dumps(RUN.to_json()))
    (run / "checkpoints" / "latest_checkpoint.txt").write_text("iter_000000010\n")
    return run


def test_every_level_of_the_folder_leads_to_the_newest_checkpoint(run_dir):
    newest = run_dir / "checkpoints" / "iter_000000010"
    for path in (run_dir, run_dir / "checkpoints", newest, newest / "weights"):
        assert is_training_checkpoint(path)
        info = find_checkpoint(path)
        assert (info.path, info.step, info.run.recipe) == (newest, 10, "cosmos_v2w_tiny")
        assert info.manifest["consumed_samples"] == 40


def test_the_manifest_lists_hidden_files_too(run_dir):
    manifest = find_checkpoint(run_dir).manifest
    assert manifest["files"] == {"weights/.metadata": 10, "weights/__0_0.distcp": 100}


def test_an_older_checkpoint_can_be_named(run_dir):
    assert find_checkpoint(run_dir / "checkpoints" / "iter_000000005").step == 5


def test_a_damaged_newest_checkpoint_is_passed_over_with_a_warning(run_dir, caplog):
    (run_dir / "checkpoints" / "iter_000000010" / "weights" / "__0_0.distcp").write_bytes(b"x" * 60)
    assert find_checkpoint(run_dir).step == 5
    assert "iter_000000010/weights/__0_0.distcp has 60 bytes, 100 expected" in caplog.text


def test_a_save_that_did_not_finish_is_passed_over(run_dir):
    (run_dir / "checkpoints" / "iter_000000010" / "manifest.json").unlink()
    assert find_checkpoint(run_dir).step == 5


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.write_bytes(b""), r"__0_0\.distcp has 0 bytes, 100 expected"),
        (lambda file: file.unlink(), r"__0_0\.distcp is missing \(100 bytes expected\)"),
        (lambda file: (file.parents[1] / "manifest.json").write_text("{"), "manifest.json is not readable JSON"),
        (lambda file: (file.parents[1] / "manifest.json").write_text("{}"), "lists no files"),
    ],
)
def test_damage_is_named_with_expected_and_found_size(run_dir, damage, message):
    folder = run_dir / "checkpoints" / "iter_000000005"
    damage(folder / "weights" / "__0_0.distcp")
    with pytest.raises(UserError, match=message):
        open_checkpoint(folder)


def test_without_any_whole_checkpoint_the_reason_is_given(run_dir):
    for step in (5, 10):
        (run_dir / "checkpoints" / iteration_name(step) / "weights" / "__0_0.distcp").unlink()
    with pytest.raises(UserError, match=r"Every checkpoint in .* is damaged: .*__0_0\.distcp is missing"):
        find_checkpoint(run_dir)


def test_what_is_there_is_listed_when_there_is_no_checkpoint(tmp_path):
    (tmp_path / "videos").mkdir()
    with pytest.raises(UserError, match=r"holds no checkpoint .*videos"):
        find_checkpoint(tmp_path)
    with pytest.raises(UserError, match=r"No checkpoint folder at .*nothing_here; in .*: videos"):
        find_checkpoint(tmp_path / "nothing_here")
    assert not is_training_checkpoint(tmp_path)

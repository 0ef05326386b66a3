"""The output folder belongs to one set of settings; what a killed call left is completed or removed."""

import pytest

from cosmos_nemo.data.manifest import read_manifest
from cosmos_nemo.errors import UserError
from data_prep.making.output import remove_own_files
from data_prep.making.samples import SampleMaker
from data_prep.making.shards import make_shards
from tests.data.shards import train_loader
from tests.data_prep.conftest import add_clip, contents


def test_a_killed_run_completes_to_the_same_bytes(options, tmp_path, monkeypatch):
    whole, killed = options(output=tmp_path / "a"), options(output=tmp_path / "b")
    make_shards(whole)
    original, calls = SampleMaker.make, []

    def die_on_the_fourth(*args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(SampleMaker, "make", die_on_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        make_shards(killed)
    assert not (killed.output / "manifest.json").exists()
    with pytest.raises(UserError, match="not a prepared dataset"):
        train_loader(killed.output)
    make_shards(killed)
    assert contents(killed.output) == contents(whole.output)
    assert len(calls) == 3 + 1 + 4  # the finished first shard is not made again


@pytest.mark.parametrize(
    "lost", ["train-000001.tar", "manifest.json", ".nv-meta/.info.json", ".prep/val-000000.tar.json"]
)
def test_a_lost_file_is_made_again(options, lost):
    chosen = options()
    make_shards(chosen)
    before = contents(chosen.output)
    (chosen.output / lost).unlink()
    make_shards(chosen)
    assert contents(chosen.output) == before


def test_a_finished_dataset_is_left_alone(options, monkeypatch):
    chosen = options()
    first = make_shards(chosen)
    times = {f: f.stat().st_mtime_ns for f in chosen.output.rglob("*")}
    monkeypatch.setattr(SampleMaker, "make", lambda *a: pytest.fail("encoded again"))
    assert make_shards(chosen) == first
    assert {f: f.stat().st_mtime_ns for f in chosen.output.rglob("*")} == times


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_frames": 1}, "num_frames was 5, now 1"),
        ({"width": 64}, "width was 48, now 64"),
        ({"seed": 1}, "seed was 0, now 1"),
        ({"latent_dtype": "float32"}, "latent_dtype was bfloat16, now float32"),
    ],
)
def test_other_settings_for_an_existing_output_are_refused_by_name(options, change, message):
    make_shards(options())
    before = contents(options().output)
    with pytest.raises(UserError, match=message):
        make_shards(options(**change))
    assert contents(options().output) == before


def test_overwriting_replaces_a_dataset_and_nothing_else(options):
    make_shards(options())
    keep = options().output / "notes.txt"
    keep.write_text("mine")
    make_shards(options(task="text2image", num_frames=1, overwrite=True, samples_per_shard=32))
    manifest = read_manifest(options().output)
    assert manifest.task == "text2image"
    assert sorted(f.name for f in options().output.glob("*.tar")) == ["train-000000.tar", "val-000000.tar"]
    assert keep.read_text() == "mine"


def test_another_input_is_refused_by_the_name_of_the_file(options, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for index in range(2):
        add_clip(folder, f"clip{index}", seed=index)
    make_shards(options(input=folder))
    (folder / "metas" / "clip1.txt").write_text("another caption")
    with pytest.raises(UserError, match=r"input files differ in metas/clip1.txt"):
        make_shards(options(input=folder))


def test_a_folder_with_something_else_in_it_is_not_touched(options, tmp_path):
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "thesis.tex").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="is not empty and was not made by this command"):
            make_shards(options(overwrite=overwrite))
    assert [f.name for f in (tmp_path / "shards").iterdir()] == ["thesis.tex"]


def test_what_a_killed_call_left_is_removed_and_foreign_files_stay(options):
    chosen = options()
    make_shards(chosen)
    before = contents(chosen.output)
    for place in (".tmp-train-000000.tar.part", ".prep/.tmp-train-000000.tar.json.part", ".tmp-manifest.json.part"):
        (chosen.output / place).mkdir()
        (chosen.output / place / "half").write_text("written")
    make_shards(chosen)
    assert contents(chosen.output) == before
    (chosen.output / ".tmp-train-000007.tar.part").mkdir()
    (chosen.output / ".tmp-mine.part").mkdir()
    remove_own_files(chosen.output)
    assert [file.name for file in chosen.output.iterdir()] == [".tmp-mine.part"]

"""`data_prep blend` says what it made, and why it makes nothing."""

import pytest

from cosmos_nemo.errors import UserError
from tests.data_prep.datasets.cases import run, write_set


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
        ("a=many", "b.yaml", "'many' is not a number"),
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

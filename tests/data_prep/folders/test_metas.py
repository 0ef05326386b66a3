"""Captions."""

import json

import pytest
from typer.testing import CliRunner

from cosmos_nemo.errors import UserError
from data_prep.__main__ import app
from data_prep.folders.metas import read_captions


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in" / "videos").mkdir(parents=True)
    for name in ("a", "b.c", "d"):
        (tmp_path / "in" / "videos" / f"{name}.mp4").write_bytes(b"not looked at")
    return tmp_path / "in"


def run(*arguments):
    return CliRunner().invoke(app, ["metas", *map(str, arguments)], catch_exceptions=False).output


def texts(folder):
    return {file.name: file.read_text() for file in sorted((folder / "metas").iterdir())}


def test_one_prompt_for_all(folder):
    assert "3 captions written" in run(folder, "--prompt", " a robot ")
    assert texts(folder) == {"a.txt": "a robot\n", "b.c.txt": "a robot\n", "d.txt": "a robot\n"}
    assert "0 captions written" in (output := run(folder, "--prompt", "a robot")) and "3 were there" in output


def test_another_caption_is_kept_or_replaced_only_if_the_user_says_so(folder):
    run(folder, "--prompt", "first")
    (folder / "metas" / "d.txt").write_text("  \n")  # as good as none
    before = texts(folder)
    with pytest.raises(
        UserError,
        match=r"2 of 3 files in .* have another caption already \(metas/a.txt and 1 more\); nothing was written: "
        "give --overwrite to replace these captions, or --keep to keep them",
    ):
        run(folder, "--prompt", "second")
    assert texts(folder) == before
    output = run(folder, "--prompt", "second", "--keep")
    assert "1 captions written" in output and "2 have another caption, which was kept: a, b.c" in output
    assert list(texts(folder).values()) == ["first\n", "first\n", "second\n"]
    run(folder, "--prompt", "second", "--overwrite")
    assert set(texts(folder).values()) == {"second\n"}


def test_what_a_killed_run_left_is_removed(folder):
    (folder / "metas" / ".tmp-a.txt.part").mkdir(parents=True)
    (folder / "metas" / ".tmp-a.txt.part" / "a.txt").write_text("hal")
    (folder / "metas" / "a.txt").write_text("a robot\n")
    run(folder, "--prompt", "a robot")
    assert sorted(texts(folder)) == ["a.txt", "b.c.txt", "d.txt"]


@pytest.mark.parametrize("form", ["object", "list", "lines"])
def test_captions_from_json(folder, tmp_path, form):
    captions = {"a.mp4": "ä ball", "b.c": "a cube", "gone": "nothing"}
    rows = [{"name": name, "caption": caption} for name, caption in captions.items()]
    lines = "\n".join(json.dumps(row) for row in rows)
    content = {"object": json.dumps(captions), "list": json.dumps(rows), "lines": lines}[form]
    (tmp_path / "c.json").write_text(content)
    output = run(folder, "--from-json", tmp_path / "c.json")
    assert texts(folder) == {"a.txt": "ä ball\n", "b.c.txt": "a cube\n"}
    assert "1 have no caption: d" in output and "1 are in the JSON but not in the folder: gone" in output


def test_images_have_captions_too(folder):
    (folder / "images").mkdir()
    (folder / "images" / "p.jpg").write_bytes(b"")
    run(folder, "--prompt", "x", "--images")
    assert texts(folder) == {"p.txt": "x\n"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ('{"a": 3}', "entry 1 has no name and caption"),
        ('[{"name": "a"}]', "entry 1 has no name and caption"),
        ('{"a": " "}', "caption of a is empty"),
        ('{"../a": "x"}', "is not a file name"),
        ('[{"name": "a", "caption": "x"}, {"name": "a", "caption": "y"}]', "two captions for a"),
    ],
)
def test_bad_json_is_explained(tmp_path, content, message):
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_captions(tmp_path / "c.json")


def test_nothing_or_both_is_an_error(folder, tmp_path):
    with pytest.raises(UserError, match="either --prompt TEXT or --from-json"):
        run(folder)
    with pytest.raises(UserError, match="either --overwrite or --keep"):
        run(folder, "--prompt", "x", "--overwrite", "--keep")
    with pytest.raises(UserError, match="--prompt is empty"):
        run(folder, "--prompt", " ")
    (tmp_path / "prompt.txt").write_text("a robot")
    with pytest.raises(UserError, match=r"--prompt .*prompt.txt is a file; give the words themselves"):
        run(folder, "--prompt", tmp_path / "prompt.txt")
    assert not (folder / "metas").exists()
    with pytest.raises(UserError, match="cannot be read"):
        run(folder, "--from-json", tmp_path / "none.json")

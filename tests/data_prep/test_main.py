"""The command line `python -m data_prep`."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from cosmos_nemo.data.manifest import read_manifest
from cosmos_nemo.errors import UserError
from data_prep.__main__ import app, main


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def test_the_whole_walk_from_nothing_to_shards(tmp_path, encoders):
    size = ("--height", 32, "--width", 48)
    assert run("sample", tmp_path / "in", "--num-videos", 4, "--num-frames", 10, *size).exit_code == 0
    result = run("tiny-text-encoder", tmp_path / "t5", "--captions", tmp_path / "in")
    assert "4 captions" in result.output
    result = run(
        *("shards", "--input", tmp_path / "in", "--output", tmp_path / "out", "--num-frames", 9, *size),
        *("--vae", encoders / "vae", "--text-encoder", tmp_path / "t5"),
        *("--val-fraction", 0.25),
    )
    assert "4 inputs = 4 used + 0 skipped + 0 unmatched" in result.output
    assert "3 train and 1 val samples" in result.output
    assert read_manifest(tmp_path / "out").latent_shape == (16, 3, 4, 6)


def test_the_closing_table_names_every_problem(options, clips, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("videos", "metas"):
        (folder / name).symlink_to(clips / name)
    chosen = options()
    arguments = ["--input", folder, "--output", chosen.output, "--vae", chosen.video_tokenizer, "--num-frames", 9]
    arguments += ["--text-encoder", chosen.text_encoder, "--height", 32, "--width", 48]
    with pytest.raises(UserError, match="none of 6 inputs"):
        run("shards", *arguments)
    arguments[arguments.index(9)] = 5
    assert run("shards", *arguments).exit_code == 0
    assert json.loads((chosen.output / "report.json").read_text())["counts"]["used"] == 6


def test_an_error_is_one_line_and_exit_code_1(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["data_prep", "sample", str(tmp_path / "x"), "--num-videos", "0"])
    with pytest.raises(SystemExit) as exit:
        main()
    assert exit.value.code == 1
    assert capsys.readouterr().err == "error: --num-videos 0 must be at least 1\n"


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from data_prep.__main__ import app\n"
        "from typer.testing import CliRunner\n"
        "result = CliRunner().invoke(app, ['shards', '--help'])\n"
        "assert result.exit_code == 0 and '--num-frames' in result.output\n"
        "heavy = {'torch', 'numpy', 'av', 'diffusers', 'transformers', 'megatron'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_every_option_of_every_command_is_documented():
    import typer

    commands = typer.main.get_command(app).commands
    undocumented = [
        f"{name} --{option.name}"
        for name, command in commands.items()
        for option in command.params
        if not getattr(option, "help", None) and option.name != "help"
    ]
    assert undocumented == []
    assert all(command.help for command in commands.values())

"""The command line starts without heavy imports, explains every option, and tells errors in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from cosmos_nemo import cli


def test_help_and_list_import_neither_torch_nor_nemo() -> None:
    program = (
        "import sys; from cosmos_nemo import catalog, cli; from recipes.launch import command; catalog.listing(); "
        "print([name for name in ('torch', 'nemo', 'nemo_run', 'megatron', 'numpy') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_user_error_is_one_line_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["cosmos-nemo", "plot", str(tmp_path / "none"), "--output", "a.png"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: no metrics at {tmp_path / 'none'}")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("command", ["generate", "reconstruct", "latent-statistics", "plot", "report", "ckpt"])
def test_the_help_of_a_command_imports_nothing_heavy(command: str) -> None:
    program = (
        "import sys; from typer.testing import CliRunner; from cosmos_nemo import cli; "
        f"result = CliRunner().invoke(cli.app, ['{command}', '--help']); assert result.exit_code == 0, result; "
        "print([name for name in ('torch', 'nemo', 'megatron', 'numpy', 'av', 'moviepy') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_every_option_of_every_command_is_documented() -> None:
    group = typer.main.get_command(cli.app)
    commands = {name: command for name, command in group.commands.items() if name != "ckpt"}
    commands |= {f"ckpt {name}": command for name, command in group.commands["ckpt"].commands.items()}
    undocumented = [
        f"{name} --{option.name}"
        for name, command in commands.items()
        for option in command.params
        if not getattr(option, "help", None) and option.name != "help"
    ]
    assert undocumented == []
    assert all(command.help for command in commands.values())

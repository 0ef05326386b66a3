"""The commands hand over to their rooms, say what is wrong in one line, and start without heavy imports."""

from __future__ import annotations

import dataclasses
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cosmos_nemo import catalog, cli


def test_recipes_are_listed_with_descriptions() -> None:
    result = CliRunner().invoke(cli.app, ["recipes"])
    assert result.exit_code == 0
    for entry in catalog.ENTRIES:
        assert f"{entry.name} " in result.stdout
        assert entry.description in result.stdout


def test_recipes_are_listed_as_json() -> None:
    result = CliRunner().invoke(cli.app, ["recipes", "--json"])
    assert [row["name"] for row in json.loads(result.stdout)] == list(catalog.RECIPES)


def test_help_and_list_import_neither_torch_nor_nemo() -> None:
    program = (
        "import sys; from cosmos_nemo import catalog, cli; from recipes.launch import command; catalog.listing(); "
        "print([name for name in ('torch', 'nemo', 'nemo_run', 'megatron', 'numpy') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_recipe_gets_the_rest_of_the_line_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from recipes.launch import command as launch

    seen: list[list[str]] = []
    monkeypatch.setattr(launch, "main", lambda argv, prog: seen.append(list(argv)) or 7)
    line = ["recipe", "cosmos_v2w_tiny", "--yaml", "a.yaml", "optim.config.lr=-1", "-y", "--help"]
    assert CliRunner().invoke(cli.app, line).exit_code == 7
    assert seen == [line[1:]]


def test_prep_is_data_prep() -> None:
    result = CliRunner().invoke(cli.app, ["prep", "--help"])
    assert result.exit_code == 0
    assert "shards" in result.stdout


def test_options_of_generate_are_the_fields_of_every_familys_options() -> None:
    from cosmos_nemo.inference.generate import OPTIONS

    parameters = inspect.signature(cli.generate).parameters
    known = {field.name for options in OPTIONS.values() for field in dataclasses.fields(options)}
    assert set(parameters) == known | {"model"}
    required = {name for name, parameter in parameters.items() if parameter.default is parameter.empty}
    assert required == {"checkpoint", "output"}
    # What the user leaves out must be told from what the user chose: the family decides about it.
    left_out = {name: parameter.default for name, parameter in parameters.items() if name not in required}
    assert {name: value for name, value in left_out.items() if value is not None} == {
        "input": [],
        "model": "auto",
        "ema": False,
    }


@pytest.mark.parametrize(
    ("command", "function", "expected"),
    [
        (
            ["ckpt", "import", "a.pt", "run", "--ema", "--dtype", "bfloat16"],
            "import_checkpoint",
            ((Path("a.pt"), Path("run")), {"ema": True, "dtype": "bfloat16", "overwrite": False}),
        ),
        (
            ["ckpt", "export", "run", "b.pt", "--tensor-parallel", "4", "--overwrite"],
            "export_checkpoint",
            (
                (Path("run"), Path("b.pt")),
                {"ema": False, "dtype": None, "overwrite": True, "format": "original", "tensor_parallel": 4},
            ),
        ),
        (
            ["ckpt", "shard", "a.pt", "--tensor-parallel", "4", "--target", "b.pt"],
            "shard_checkpoint",
            ((Path("a.pt"), Path("b.pt")), {"tensor_parallel": 4, "overwrite": False}),
        ),
        (
            ["ckpt", "merge", "a.pt", "b.pt"],
            "merge_checkpoint",
            ((Path("a.pt"), Path("b.pt")), {"tensor_parallel": None, "overwrite": False}),
        ),
        (["ckpt", "verify", "run"], "verify", ((Path("run"),), {"ema": False})),
        (["ckpt", "info", "run"], "info", ((Path("run"),), {"ema": False})),
    ],
)
def test_ckpt_commands_pass_their_options(
    monkeypatch: pytest.MonkeyPatch, command: list[str], function: str, expected: tuple
) -> None:
    from cosmos_nemo.checkpoints import commands, shard_commands

    seen = []
    module = commands if hasattr(commands, function) else shard_commands
    monkeypatch.setattr(module, function, lambda *args, **kwargs: seen.append((args, kwargs)) or "done")
    result = CliRunner().invoke(cli.app, command)
    assert (result.exit_code, result.stdout) == (0, "done\n")
    assert seen == [expected]


@pytest.mark.parametrize("same", [True, False])
def test_diff_tells_by_its_exit_code(monkeypatch: pytest.MonkeyPatch, same: bool) -> None:
    from cosmos_nemo.checkpoints import diff

    monkeypatch.setattr(diff, "diff", lambda a, b, **kwargs: ("text", same))
    result = CliRunner().invoke(cli.app, ["ckpt", "diff", "a", "b"])
    assert (result.exit_code, result.stdout) == (0 if same else 1, "text\n")


def test_golden_returns_the_exit_code_of_the_comparison(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from cosmos_nemo.golden import runner

    seen = []
    monkeypatch.setattr(runner, "run", lambda paths, filter, verbose: seen.append((paths, filter, verbose)) or 1)
    assert CliRunner().invoke(cli.app, ["golden", str(tmp_path), "--filter", "rope", "-v"]).exit_code == 1
    assert seen == [([tmp_path], "rope", True)]


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


def test_doctor_finds_the_pins_fulfilled(capsys: pytest.CaptureFixture[str]) -> None:
    from cosmos_nemo import doctor

    rows = list(doctor.pins())
    assert {row.name for row in rows} >= {"torch", "nemo_toolkit", "megatron-core"}
    assert [row for row in rows if row.problem] == []


def test_doctor_prints_every_assumption_of_the_platform(capsys: pytest.CaptureFixture[str]) -> None:
    from cosmos_nemo import doctor
    from cosmos_nemo.platform import table

    doctor.print_assumptions()
    printed = capsys.readouterr().out
    assert printed.count("    assumes  ") == len(table.assumptions()) > 10


def test_doctor_names_a_wrong_version_and_what_is_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import importlib.metadata

    from cosmos_nemo import doctor

    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["numpy<1", "no-such-package==3"])
    assert doctor.run(device=False) == 1
    out = capsys.readouterr().out
    assert "needs <1" in out
    assert "pip install 'no-such-package==3'" in out
    assert "2 problems" in out

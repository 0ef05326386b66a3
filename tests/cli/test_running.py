"""The commands hand over to their rooms."""

from __future__ import annotations

import json
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


def test_golden_returns_the_exit_code_of_the_comparison(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from cosmos_nemo.golden import runner

    seen = []
    monkeypatch.setattr(runner, "run", lambda paths, filter, verbose: seen.append((paths, filter, verbose)) or 1)
    assert CliRunner().invoke(cli.app, ["golden", str(tmp_path), "--filter", "rope", "-v"]).exit_code == 1
    assert seen == [([tmp_path], "rope", True)]

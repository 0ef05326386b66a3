"""The options of `generate` are those of every family."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cosmos_nemo import cli
from cosmos_nemo.inference.choices import OPTIONS


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    from cosmos_nemo.inference import generate, options

    calls: list[dict[str, Any]] = []
    nothing = options.GenerateResult(paths=(), seconds=0.0)
    monkeypatch.setattr(generate, "generate", lambda **choices: calls.append(choices) or nothing)
    return calls


def test_options_are_the_fields_of_every_familys_options() -> None:
    command = typer.main.get_command(cli.app).commands["generate"]  # type: ignore[attr-defined]
    known = {field.name for options in OPTIONS.values() for field in dataclasses.fields(options)}
    assert {option.name for option in command.params} - {"help"} == known | {"model"}
    assert {option.name for option in command.params if option.required} == {"checkpoint", "output"}


def test_what_the_user_leaves_out_can_be_told_from_what_the_user_chose(seen: list[dict[str, Any]]) -> None:
    line = ["generate", "--checkpoint", "run", "--output", "a.mp4"]
    assert CliRunner().invoke(cli.app, line).exit_code == 0
    given = {name: value for name, value in seen[0].items() if value is not None}
    assert given == {"checkpoint": Path("run"), "output": Path("a.mp4"), "input": (), "model": "auto"}


def test_choices_are_handed_over(seen: list[dict[str, Any]]) -> None:
    line = "generate --checkpoint run --output a.mp4 --vae wan --ema --input a.png --input b.png --top-p 0.5".split()
    assert CliRunner().invoke(cli.app, line).exit_code == 0
    given = {name: value for name, value in seen[0].items() if value is not None}
    assert given == {
        "checkpoint": Path("run"),
        "output": Path("a.mp4"),
        "input": (Path("a.png"), Path("b.png")),
        "model": "auto",
        "tokenizer": Path("wan"),
        "ema": True,
        "top_p": 0.5,
    }


def test_the_help_says_which_family_an_option_belongs_to() -> None:
    text = " ".join(CliRunner().invoke(cli.app, ["generate", "--help"]).stdout.split())
    assert "--num-steps <int> [predict2] Steps of the sampler" in text
    assert "--top-p <float> [autoregressive] Draw from the most likely tokens" in text
    assert "--seed <int> Seed of everything that is drawn at random. [default: 0]" in text

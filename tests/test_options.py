"""A command gets its options from the fields of a dataclass: names, types, defaults and help texts."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from cosmos_nemo.options import field_texts, flag, takes, takes_any_of


@dataclass(kw_only=True)
class Base:
    """What both families have."""

    place: Path
    """Where to write."""
    num_frames: int = 8
    """Frames of the
    result."""


@dataclass(kw_only=True)
class First(Base):
    """One family."""

    deep: bool = False
    """Dig deeper."""
    hidden: int = 3
    """Nothing for users."""


@dataclass(kw_only=True)
class Second(Base):
    """Another family."""

    names: tuple[str, ...] = ()
    """What to call them."""
    rate: float | None = None
    """How fast."""


def run(command: Any, *arguments: str) -> tuple[int, str]:
    app = typer.Typer(rich_markup_mode=None)
    app.command()(command)
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
    return result.exit_code, result.output


def seen_by(decorator: Any, *arguments: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    @decorator
    def command(word: Annotated[str, typer.Option(help="A word.")] = "one", **given: Any) -> None:
        """Do something."""
        seen.update(given, word=word)

    assert run(command, *arguments)[0] == 0
    return seen


def test_texts_are_the_strings_under_the_fields_of_a_class_and_its_bases():
    texts = {"place": "Where to write.", "num_frames": "Frames of the result.", "deep": "Dig deeper."}
    assert field_texts(First) == texts | {"hidden": "Nothing for users."}


def test_a_command_is_called_with_the_fields_and_its_own_options():
    decorator = takes(First, without=("hidden",))
    assert seen_by(decorator, "--place", "a/b") == {"word": "one", "place": Path("a/b"), "num_frames": 8, "deep": False}
    given = ("--place", "a", "--num-frames", "3", "--deep", "--word", "two")
    assert seen_by(decorator, *given) == {"word": "two", "place": Path("a"), "num_frames": 3, "deep": True}


def test_what_the_user_does_not_decide_is_none_and_the_help_says_who_does():
    decorator = takes(First, decided_by={"num_frames": "the recipe's"})
    assert seen_by(decorator, "--place", "a")["num_frames"] is None
    help_text = run(decorator(lambda **given: None), "--help")[1]
    assert "Frames of the result.  [default: (the recipe's)]" in help_text


def test_fields_may_be_positional_and_have_other_names():
    decorator = takes(Second, arguments=("place", "names"), flags={"rate": ("--rate", "--fps")})
    assert seen_by(decorator, "a", "x", "y", "--fps", "2") == {
        "word": "one",
        "place": Path("a"),
        "names": ["x", "y"],
        "num_frames": 8,
        "rate": 2.0,
    }


def test_of_several_families_all_fields_are_offered_and_none_is_chosen_for_the_user():
    decorator = takes_any_of({"first": First, "second": Second}, without=("hidden",), flags={})
    seen = seen_by(decorator, "--place", "a")
    left_out = dict.fromkeys(("num_frames", "deep", "names", "rate"))
    assert seen == left_out | {"word": "one", "place": Path("a")}
    assert seen_by(decorator, "--place", "a", "--deep", "--rate", "1")["deep"] is True


def test_the_help_of_several_families_names_those_that_have_an_option():
    help_text = run(takes_any_of({"first": First, "second": Second}, flags={})(lambda **given: None), "--help")[1]
    lines = {line.split()[0]: " ".join(line.split()[2:]) for line in help_text.splitlines() if " --" in line}
    assert lines["--num-frames"] == "Frames of the result. [default: 8]"
    assert lines["--rate"] == "[second] How fast."
    assert lines["--hidden"] == "[first] Nothing for users. [default: 3]"
    assert "[first] Dig deeper." in help_text and "--no-deep" not in help_text


def test_a_required_field_must_be_given():
    code, output = run(takes(First)(lambda **given: None))
    assert code == 2 and "--place" in output


def test_a_field_without_a_text_is_a_mistake_that_shows_at_once():
    undocumented = dataclasses.make_dataclass("Undocumented", [("size", int, 3)])
    with pytest.raises((KeyError, OSError, TypeError)):
        takes(undocumented)


def test_a_flag_is_the_field_in_the_words_of_the_command_line():
    assert flag("num_frames") == "--num-frames"

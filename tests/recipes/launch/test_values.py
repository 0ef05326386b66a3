"""Text of the command line becomes a value of the field's type, or one line that says what is needed."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any, Literal, Optional, Union

import pytest

from cosmos_nemo.errors import UserError
from recipes.launch import values

# As Lightning annotates trainer.devices, and older code an optional text.
DEVICES = Union[list[int], str, int]  # noqa: UP007
OPTIONAL_TEXT = Optional[str]  # noqa: UP045


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("7", int, 7),
        ("1_000", int, 1000),
        ("1e-4", float, 1e-4),
        ("3", float, 3.0),
        ("2**-14.5", float, 2**-14.5),
        ("2 ** (-14.5)", float, 2**-14.5),
        ("inf", float, float("inf")),
        ("true", bool, True),
        ("False", bool, False),
        ("0", bool, False),
        ("3", str, "3"),
        ("os.path", str, "os.path"),
        ("'a b'", str, "a b"),
        ("", str, ""),
        ("None", int | None, None),
        ("null", OPTIONAL_TEXT, None),
        ("7", int | None, 7),
        ("abc", str | None, "abc"),
        ("2", DEVICES, 2),
        ("auto", DEVICES, "auto"),
        ("[0,1]", DEVICES, [0, 1]),
        ("1", bool | int, 1),
        ("0.5", int | float, 0.5),
        ("(704,1280)", tuple[int, int], (704, 1280)),
        ("[704, 1280]", tuple[int, int], (704, 1280)),
        ("[1,2.5]", list[float], [1.0, 2.5]),
        ("[1]", Sequence[int], [1]),
        ("{'a': 1}", dict[str, int], {"a": 1}),
        ("offline", Literal["off", "online", "offline"], "offline"),
        ("16", Literal[16, 32], 16),
        ("a/b", pathlib.Path, pathlib.Path("a/b")),
        ("5", Any, 5),
        ("word", Any, "word"),
        ("true", Any, True),
    ],
)
def test_text_becomes_the_type_of_the_field(text: str, hint: Any, value: Any) -> None:
    got = values.parse(text, hint, key="k")
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "hint", "needs"),
    [
        ("abc", int, "a whole number"),
        ("1.5", int, "a whole number"),
        ("two", float, "a number"),
        ("yes", bool, "true or false"),
        ("x", int | None, "a whole number or none"),
        ("on", Literal["off", "online", "offline"], "one of off, online, offline"),
        ("5", list[int], "a list such as [1,2]"),
        ("['a']", list[int], "a list such as [1,2]"),
        ("[1,2,3]", tuple[int, int], "a list such as [1,2]"),
        ("9**9**9", int, "a whole number"),
        ("__import__('os')", int, "a whole number"),
        ("1/0", float, "a number"),
        ("x", pytest.Config, "a Config (set its fields one by one)"),
    ],
)
def test_wrong_type_is_one_line_that_says_what_is_needed(text: str, hint: Any, needs: str) -> None:
    with pytest.raises(UserError) as caught:
        values.parse(text, hint, key="trainer.max_steps")
    assert str(caught.value) == f"trainer.max_steps={text}: needs {needs}"


def test_text_that_names_a_dtype_becomes_one() -> None:
    import torch

    assert values.parse("torch.bfloat16", torch.dtype, key="k") is torch.bfloat16
    assert values.parse("bfloat16", torch.dtype, key="k") is torch.bfloat16
    with pytest.raises(UserError, match=r"k=nn: needs a dtype"):
        values.parse("nn", torch.dtype, key="k")

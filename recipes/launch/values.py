"""Text from a command line -> a value of a field's type.

NeMo-Run's own parser is not used for this step. It does not know `int | None` or annotations made by
`from __future__ import annotations`, turns `trainer.devices=2` into the text "2", and imports a module when a text
happens to be the name of one.
"""

from __future__ import annotations

import ast
import collections.abc
import inspect
import math
import operator
import pathlib
import types
import typing
from typing import Any, NoReturn

from cosmos_nemo.errors import UserError

_ARITHMETIC: dict[type, Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_UNIONS = (typing.Union, types.UnionType)
_SEQUENCES = (list, tuple, collections.abc.Sequence, collections.abc.Iterable)
_MAPPINGS = (dict, collections.abc.Mapping)
_BOOLS = {"true": True, "1": True, "false": False, "0": False}
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", pathlib.Path: "a path"}


def parse(text: str, hint: Any, *, key: str) -> Any:
    """Convert `text` to the type `hint`; `typing.Any` means a Python literal, or text where it is none.

    A number may be written as arithmetic: `2**-14.5`.

    Raises:
        UserError: the text does not describe such a value.
    """
    try:
        return _convert(text, hint)
    except (ValueError, SyntaxError, TypeError, OverflowError, ZeroDivisionError):
        raise UserError(f"{key}={text}: needs {describe(hint)}") from None


def describe(hint: Any) -> str:
    """A hint in words: `int | None` becomes "a whole number or none"."""
    origin = typing.get_origin(hint)
    if hint in _WORDS:
        return _WORDS[hint]
    if hint is type(None):
        return "none"
    if origin in _UNIONS:
        return " or ".join(dict.fromkeys(describe(member) for member in typing.get_args(hint)))
    if origin is typing.Literal:
        return "one of " + ", ".join(str(value) for value in typing.get_args(hint))
    if hint in _SEQUENCES or origin in _SEQUENCES:
        return "a list such as [1,2]"
    if hint in _MAPPINGS or origin in _MAPPINGS:
        return "a dict such as {'a': 1}"
    if inspect.isclass(hint):
        return f"a {hint.__name__} (set its fields one by one)"
    return str(hint)


def _refuse() -> NoReturn:
    raise ValueError


def _convert(text: str, hint: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin in _UNIONS:
        return _convert_union(text, typing.get_args(hint))
    if origin is typing.Annotated:
        return _convert(text, typing.get_args(hint)[0])
    if origin is typing.Literal:
        matches = [value for value in typing.get_args(hint) if str(value) == text]
        return matches[0] if matches else _refuse()
    if hint in _SEQUENCES or origin in _SEQUENCES or hint in _MAPPINGS or origin in _MAPPINGS:
        return _convert_container(text, hint, origin or hint)
    if hint in _SCALARS:
        return _SCALARS[hint](text)
    if str(hint) == "<class 'torch.dtype'>":
        return _dtype(text)
    if inspect.isclass(hint) and hint is not object:
        _refuse()
    return _guess(text)


def _convert_union(text: str, members: tuple[Any, ...]) -> Any:
    # From strict to permissive: "1" is a number for `int | str`, and None is never the text "None".
    order = [type(None), bool, int, float]
    ranked = sorted(members, key=lambda member: (member is str, order.index(member) if member in order else len(order)))
    if bool in ranked and int in ranked and text in ("0", "1"):
        ranked.remove(bool)
    for member in ranked:
        try:
            return _convert(text, member)
        except (ValueError, SyntaxError, TypeError):
            continue
    return _refuse()


def _convert_container(text: str, hint: Any, origin: Any) -> Any:
    value = ast.literal_eval(text)
    if origin in _MAPPINGS:
        return value if isinstance(value, dict) else _refuse()
    if not isinstance(value, (list, tuple)):
        _refuse()
    members = [member for member in typing.get_args(hint) if member is not Ellipsis]
    if members:
        fixed = origin is tuple and Ellipsis not in typing.get_args(hint)
        if fixed and len(members) != len(value):
            _refuse()
        kinds = members if fixed else members[:1] * len(value)
        value = [_convert(repr(item), kind) for item, kind in zip(value, kinds, strict=True)]
    return tuple(value) if origin is tuple else list(value)


def _text(text: str) -> str:
    quoted = len(text) >= 2 and text[0] in "'\"" and text[-1] == text[0]
    return ast.literal_eval(text) if quoted else text


def _bool(text: str) -> bool:
    return _BOOLS[text.lower()] if text.lower() in _BOOLS else _refuse()


def _int(text: str) -> int:
    value = _number(text)
    return value if isinstance(value, int) else _refuse()


def _float(text: str) -> float:
    return float(text) if text in ("inf", "-inf", "nan") else float(_number(text))


def _none(text: str) -> None:
    return None if text.lower() in ("none", "null", "~") else _refuse()


def _guess(text: str) -> Any:
    for convert in (_none, _number, ast.literal_eval):
        try:
            return convert(text)
        except (ValueError, SyntaxError, TypeError):
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def _number(text: str) -> int | float:
    """Evaluate a number or simple arithmetic on numbers; names and calls are not evaluated."""

    def evaluate(node: ast.AST) -> int | float:
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            return node.value
        if isinstance(node, ast.UnaryOp) and type(node.op) in _ARITHMETIC:
            return _ARITHMETIC[type(node.op)](evaluate(node.operand))
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            left, right = evaluate(node.left), evaluate(node.right)
            if isinstance(node.op, ast.Pow) and abs(right) > 1024:
                raise OverflowError
            return _ARITHMETIC[type(node.op)](left, right)
        raise ValueError

    value = evaluate(ast.parse(text.strip(), mode="eval").body)
    return value if isinstance(value, (int, float)) and not math.isnan(value) else _refuse()


def _dtype(text: str) -> Any:
    import torch

    value = getattr(torch, text.removeprefix("torch."), None)
    return value if isinstance(value, torch.dtype) else _refuse()


_SCALARS: dict[Any, Any] = {
    str: _text,
    bool: _bool,
    int: _int,
    float: _float,
    type(None): _none,
    pathlib.Path: pathlib.Path,
    Any: _guess,
}

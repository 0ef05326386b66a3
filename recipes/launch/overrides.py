"""`key=value` and YAML files on top of a recipe: find the field, set it, or say which names are legal."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import operator
import pathlib
import re
import typing
from collections.abc import Mapping
from typing import Any

import fiddle as fdl
import nemo_run as run
import yaml

from cosmos_nemo.errors import UserError
from recipes.launch import values

_ASSIGNMENT = re.compile(r"^(?P<key>[A-Za-z_][\w.]*)\s*(?P<op>[-+*/]?=)\s*(?P<value>.*)$", re.DOTALL)
_OPERATIONS = {"+=": operator.add, "-=": operator.sub, "*=": operator.mul, "/=": operator.truediv}
_LONGEST_LISTING = 48  # pl.Trainer has 46 fields; a TransformerConfig some 200, which nobody reads in an error


def apply(config: fdl.Buildable, assignment: str) -> str:
    """Apply one `a.b.c=value` to `config` in place and return its key; `+=`, `-=`, `*=`, `/=` work on numbers.

    Raises:
        UserError: not of that form, no such field, a value of another type, or a whole part instead of a field of it.
    """
    match = _ASSIGNMENT.match(assignment)
    if not match:
        raise UserError(f"'{assignment}' is not key=value; write for example trainer.max_steps=10")
    key = match["key"]
    *parents, name = key.split(".")
    owner = _descend(config, parents, key=key)
    hint = _hint(owner, name, key=key, root=config)
    old = _current(owner, name)
    if isinstance(old, fdl.Buildable):
        raise UserError(f"{assignment}: {key} has fields of its own; set {_listing(old, prefix=f'{key}.')}")
    value = values.parse(match["value"], hint, key=key)
    if match["op"] != "=":
        if not isinstance(old, (int, float)) or not isinstance(value, (int, float)):
            raise UserError(f"{assignment}: {key} is {old!r}, and {match['op']} needs numbers")
        value = _OPERATIONS[match["op"]](old, value)
    setattr(owner, name, value)
    return key


def fields(config: fdl.Buildable) -> dict[str, Any]:
    """Every name that can be set on `config`, with its type hint.

    Where a constructor takes `**kwargs`, the names its parent class takes belong to it too. (NeMo-Run accepts any
    name there, so that a misspelt `tensor_model_parallel_size` would be found only when the job starts.)
    """
    return _fields(fdl.get_callable(config))


@functools.cache
def _fields(target: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for layer in inspect.getmro(target) if inspect.isclass(target) else (target,):
        if layer is object or (inspect.isclass(layer) and "__init__" not in vars(layer)):
            continue
        function = layer.__init__ if inspect.isclass(layer) else layer
        hints = _hints(function, layer)
        parameters = list(inspect.signature(function).parameters.values())
        kinds = {parameter.kind for parameter in parameters}
        variadic = {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
        for parameter in parameters:
            if parameter.kind not in variadic and parameter.name != "self":
                found.setdefault(parameter.name, hints.get(parameter.name, Any))
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return found


def _hints(function: Any, layer: Any) -> dict[str, Any]:
    # The annotations of a dataclass's generated __init__ are text of the module that defines the class.
    for candidate in (function, layer):
        try:
            hints = typing.get_type_hints(candidate)
        except (NameError, TypeError, AttributeError):
            continue
        if set(hints) - {"return"}:
            return hints
    return {}


def _descend(config: fdl.Buildable, parents: list[str], *, key: str) -> fdl.Buildable:
    node: Any = config
    for depth, name in enumerate(parents):
        where = ".".join(parents[:depth])
        if name not in fields(node):
            raise UserError(_no_such_field(name, where, node, config))
        node = _current(node, name)
        if not isinstance(node, fdl.Buildable):
            here = ".".join(parents[: depth + 1])
            raise UserError(f"no field '{key}': {here} is {node!r}, which has no fields of its own")
    return node


def _hint(owner: fdl.Buildable, name: str, *, key: str, root: fdl.Buildable) -> Any:
    if name not in fields(owner):
        raise UserError(_no_such_field(name, key.rpartition(".")[0], owner, root))
    return fields(owner)[name]


def _current(owner: fdl.Buildable, name: str) -> Any:
    try:
        return getattr(owner, name, None)
    except ValueError:  # Fiddle does not know the value of a dataclass field that has a default_factory
        return None


def _no_such_field(name: str, where: str, owner: fdl.Buildable, root: fdl.Buildable) -> str:
    prefix = f"{where}." if where else ""
    close = [prefix + found for found in difflib.get_close_matches(name, fields(owner), n=1, cutoff=0.75)]
    close = close or _elsewhere(name, root)
    hint = f" (did you mean {' or '.join(close)}?)" if close else ""
    whole = "a recipe" if isinstance(root, fdl.Partial) else "it"
    return f"no field '{prefix}{name}'{hint}; {where or whole} has {_listing(owner)}"


def _listing(owner: fdl.Buildable, prefix: str = "") -> str:
    """Legal names in one line; of a class with very many, those that the recipe or this project's classes set."""
    legal = [name for name in fields(owner) if not name.startswith("_")]
    shown = legal
    if len(legal) > _LONGEST_LISTING:
        target = fdl.get_callable(owner)
        layers = [layer for layer in inspect.getmro(target) if layer.__module__.startswith("cosmos_nemo")]
        ours = {name for layer in layers for name in vars(layer).get("__annotations__", {})}
        shown = [name for name in legal if name in ours or name in owner.__arguments__]
    more = f" and {len(legal) - len(shown)} more" if len(shown) < len(legal) else ""
    return ", ".join(prefix + name for name in shown) + more


def _elsewhere(name: str, root: fdl.Buildable) -> list[str]:
    """Full keys of fields with this very name in other parts of the recipe: `max_steps` -> `trainer.max_steps`."""
    found: list[str] = []

    def visit(node: fdl.Buildable, prefix: str) -> None:
        if name in fields(node):
            found.append(prefix + name)
        for child, value in node.__arguments__.items():
            if isinstance(value, fdl.Buildable):
                visit(value, f"{prefix}{child}.")

    visit(root, "")
    return found[:2]


def load_yaml(config: fdl.Buildable, path: str | pathlib.Path) -> None:
    """Merge a YAML file into `config` in place: a whole exported recipe, or only the fields to change.

    Raises:
        UserError: no such file, not YAML, or a field or value that does not fit.
    """
    try:
        tree = yaml.safe_load(pathlib.Path(path).read_text())
    except OSError as error:
        raise UserError(f"--yaml {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UserError(f"--yaml {path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise UserError(f"--yaml {path}: expected a mapping such as 'trainer: {{max_steps: 10}}'")
    _merge(config, tree, where="", root=config)


def _merge(config: fdl.Buildable, tree: Mapping[str, Any], *, where: str, root: fdl.Buildable) -> None:
    for name, value in tree.items():
        if name in ("_target_", "_partial_"):
            continue
        key = f"{where}.{name}" if where else name
        hint = _hint(config, name, key=key, root=root)
        old = _current(config, name)
        if isinstance(value, dict) and isinstance(old, fdl.Buildable) and _same_target(old, value):
            _merge(old, value, where=key, root=root)
        elif isinstance(value, (dict, list)):
            setattr(config, name, _build(value, key=key))
        else:
            text = value if isinstance(value, str) else repr(value)
            setattr(config, name, values.parse(text, hint, key=key))


def _same_target(config: fdl.Buildable, tree: Mapping[str, Any]) -> bool:
    target = fdl.get_callable(config)
    return tree.get("_target_") in (None, f"{target.__module__}.{target.__qualname__}")


def _build(node: Any, *, key: str) -> Any:
    """Turn exported YAML back into configs: the reverse of NeMo-Run's YAML serialisation."""
    if isinstance(node, list):
        return [_build(item, key=key) for item in node]
    if not isinstance(node, dict) or "_target_" not in node:
        return node
    module, _, name = node["_target_"].rpartition(".")
    try:
        target = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise UserError(f"{key}: cannot import _target_ '{node['_target_']}'") from None
    if node.get("_call_") is False:
        return target
    kind = run.Partial if node.get("_partial_") else run.Config
    arguments = {name: _build(value, key=f"{key}.{name}") for name, value in node.items() if name[0] != "_"}
    return kind(target, **arguments)


def dump_yaml(config: fdl.Buildable) -> str:
    """The fields that are set, as YAML that `load_yaml` accepts; the name of the job function is not among them."""
    from nemo_run.core.serialization.yaml import YamlSerializer

    tree = yaml.safe_load(YamlSerializer().serialize(config))
    return yaml.safe_dump({name: value for name, value in tree.items() if name not in ("_target_", "_partial_")})

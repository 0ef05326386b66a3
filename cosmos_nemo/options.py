"""Turn the fields of a dataclass into the options of a command, so that an option is typed and explained once.

A field's annotation and default become those of the option, the string under the field its help text:

    @dataclass(kw_only=True)
    class SampleOptions:
        num_videos: int = 32
        \"\"\"Videos to render.\"\"\"

    @app.command()
    @takes(SampleOptions)
    def sample(folder: Path, **given: Any) -> None:
        options = SampleOptions(**given)
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import textwrap
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, TypeVar

Command = TypeVar("Command", bound=Callable[..., None])


def takes(
    kind: type,
    *,
    without: Collection[str] = (),
    arguments: Collection[str] = (),
    flags: Mapping[str, Sequence[str]] = types.MappingProxyType({}),
    decided_by: Mapping[str, str] = types.MappingProxyType({}),
) -> Callable[[Command], Command]:
    """Replace the `**` parameter of a command by the fields of a dataclass.

    Args:
        kind: the dataclass.
        without: fields that the user cannot choose.
        arguments: fields that are positional arguments instead of options.
        flags: names on the command line, of fields whose own name is not the only one.
        decided_by: fields that are None unless the user chooses, and who decides about them then; shown as default.

    Returns:
        a decorator for the command.
    """
    import typer

    annotations, texts = typing.get_type_hints(kind), field_texts(kind)
    parameters = []
    for field in dataclasses.fields(kind):
        if field.name in without:
            continue
        default, annotation = _default(field), annotations[field.name]
        shown: bool | str = True
        if field.name in decided_by:
            default, annotation, shown = None, annotation | None, decided_by[field.name]
        if field.name in arguments:
            info = typer.Argument(help=texts[field.name])
        else:
            names = flags.get(field.name, (flag(field.name),))
            info = typer.Option(*names, help=texts[field.name], show_default=shown)
        parameters.append(parameter(field.name, annotation, info, default))
    return lambda command: with_parameters(command, parameters)


def takes_any_of(
    kinds: Mapping[str, type], *, without: Collection[str] = (), flags: Mapping[str, Sequence[str]]
) -> Callable[[Command], Command]:
    """Replace the `**` parameter of a command by the fields of several dataclasses, of which one is chosen later.

    A field is None unless the user chooses, so that a choice which the chosen dataclass lacks can be refused. The help
    text of a field that not all have begins with the names of those that have it.

    Args:
        kinds: the dataclasses by name.
        without: fields that the command names itself.
        flags: names on the command line, of fields whose own name is not the only one.

    Returns:
        a decorator for the command.
    """
    import typer

    owners: dict[str, list[str]] = {}
    for name, kind in kinds.items():
        for field in dataclasses.fields(kind):
            owners.setdefault(field.name, []).append(name)
    shared = [name for name in owners if len(owners[name]) == len(kinds)]
    parameters = []
    for name in [*shared, *(name for name in owners if name not in shared)]:
        if name in without:
            continue
        kind = kinds[owners[name][0]]
        (field,) = (field for field in dataclasses.fields(kind) if field.name == name)
        default = _default(field)
        text = field_texts(kind)[name]
        text = text if name in shared else f"[{', '.join(owners[name])}] {text}"
        if not any(default is nothing for nothing in (inspect.Parameter.empty, None, False)):
            text = f"{text}  [default: {default}]"
        required = default is inspect.Parameter.empty and name in shared
        info = typer.Option(*flags.get(name, (flag(name),)), help=text)
        annotation = typing.get_type_hints(kind)[name]
        parameters.append(
            parameter(name, annotation if required else annotation | None, info, default if required else None)
        )
    return lambda command: with_parameters(command, parameters)


def field_texts(kind: type) -> dict[str, str]:
    """Return the string under each field of a dataclass, those of its bases included, on one line."""
    texts: dict[str, str] = {}
    for owner in filter(dataclasses.is_dataclass, reversed(kind.__mro__)):
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        assert isinstance(definition, ast.ClassDef)
        for field, text in itertools.pairwise(definition.body):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                    texts[name] = " ".join(words.split())
    return texts


def flag(field: str) -> str:
    """Return a field's name on the command line, for messages too."""
    return f"--{field.replace('_', '-')}"


def parameter(name: str, annotation: Any, info: Any, default: Any) -> inspect.Parameter:
    """Return a parameter of a command; a tuple becomes a list, which typer takes."""
    if typing.get_origin(annotation) is tuple:
        annotation = list[typing.get_args(annotation)[0]]  # type: ignore[misc]
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[annotation, info], default=default
    )


def with_parameters(command: Command, parameters: Sequence[inspect.Parameter]) -> Command:
    """Give typer a signature of the command in which the `**` parameter is replaced by these."""
    hints = typing.get_type_hints(command, include_extras=True)
    own = [
        own.replace(annotation=hints[own.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for own in inspect.signature(command).parameters.values()
        if own.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    # What must be given comes first in the help text.
    together = sorted([*own, *parameters], key=lambda each: each.default is not each.empty)
    command.__signature__ = inspect.Signature(together)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in together}
    return command


def _default(field: dataclasses.Field[Any]) -> Any:
    """Return a field's default; `inspect.Parameter.empty` for a field that must be given."""
    if field.default is not dataclasses.MISSING:
        return list(field.default) if isinstance(field.default, tuple) else field.default
    assert field.default_factory is dataclasses.MISSING, f"{field.name}: a command shows defaults, so give a value"
    return inspect.Parameter.empty

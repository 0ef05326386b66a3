"""`cosmos-nemo generate`: finds out what a checkpoint is and hands over to its family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from cosmos_nemo.errors import UserError
from cosmos_nemo.inference.autoregressive_options import AutoregressiveOptions
from cosmos_nemo.inference.diffusion_options import DiffusionOptions
from cosmos_nemo.inference.options import CommonOptions, GenerateResult
from cosmos_nemo.inference.source import open_source

OPTIONS: Mapping[str, type[CommonOptions]] = {"predict2": DiffusionOptions, "autoregressive": AutoregressiveOptions}
"""The choices for each family of networks that generates something, by the family's name, which `--model` takes."""


def generate(
    checkpoint: Path, *, input: tuple[Path, ...] = (), model: str = "auto", progress: bool = True, **choices: Any
) -> GenerateResult:
    """Generate with a checkpoint of any family.

    Args:
        checkpoint: a training checkpoint, or published weights.
        input: what the videos begin with.
        model: the family that the checkpoint has to be of; `auto` takes any.
        progress: show a progress bar on the terminal.
        **choices: fields of the family's options; None leaves a choice to it.

    Returns:
        the written paths and the time it took.

    Raises:
        UserError: anything the user can put right; nothing is written then.
    """
    if model not in ("auto", *OPTIONS):
        raise UserError(f"--model {model} is unknown; use auto, {' or '.join(OPTIONS)}.")
    source = open_source(Path(checkpoint).expanduser(), ema=bool(choices.get("ema")))
    family = source.architecture.family
    if model not in ("auto", family.name):
        raise UserError(
            f"--model {model}: {checkpoint} holds a network of --model {family.name}; use another checkpoint."
        )
    if family.name not in OPTIONS:
        raise UserError(f"{checkpoint} holds a {family.title} network, which generates nothing by itself.")
    options = make_options(family.name, checkpoint=checkpoint, input=input, **choices)
    if isinstance(options, AutoregressiveOptions):
        from cosmos_nemo.inference.autoregressive import generate_autoregressive

        return generate_autoregressive(options, source, progress=progress)
    from cosmos_nemo.inference.diffusion import generate_diffusion

    assert isinstance(options, DiffusionOptions)
    return generate_diffusion(options, source, progress=progress)


def make_options(family: str, *, input: tuple[Path, ...] = (), **choices: Any) -> CommonOptions:
    """The options for a family of networks.

    Args:
        family: a key of `OPTIONS`.
        input: what the videos begin with.
        **choices: fields of the options; None leaves a choice out.

    Raises:
        UserError: a choice that this family does not have, one that it needs is missing, or a wrong value.
    """
    made = OPTIONS[family]
    given = {name: value for name, value in choices.items() if value is not None}
    known = {field.name: field for field in fields(made)}
    if foreign := [_flag(name) for name in given if name not in known]:
        raise UserError(f"{', '.join(foreign)} is no choice of {family} models; drop it, or use another checkpoint.")
    for name, field in known.items():
        if field.default is MISSING and name not in given:
            raise UserError(f"{_flag(name)} is missing; {family} models need it.")
    if made is DiffusionOptions:
        if len(input) > 1:
            raise UserError("A diffusion model takes one --input at a time; run the command once for each.")
        return made(**given, input=input[0] if input else None)
    return made(**given, input=tuple(input))


def _flag(name: str) -> str:
    """A field's name on the command line."""
    return f"--{name.replace('_', '-')}"

"""`cosmos-nemo generate`: finds out what a checkpoint is and hands over to its family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from cosmos_nemo.errors import UserError
from cosmos_nemo.families import family_of_fields
from cosmos_nemo.families.autoregressive import AUTOREGRESSIVE
from cosmos_nemo.inference.autoregressive_options import AutoregressiveOptions
from cosmos_nemo.inference.diffusion_options import DiffusionOptions
from cosmos_nemo.inference.options import CommonOptions, GenerateResult
from cosmos_nemo.inference.source import open_source

DIFFUSION, AR = "diffusion", "ar"

OPTIONS: Mapping[str, type[CommonOptions]] = {DIFFUSION: DiffusionOptions, AR: AutoregressiveOptions}
"""The choices of each kind of model, by the name that `--model` takes."""


def generate(
    checkpoint: Path, *, input: tuple[Path, ...] = (), model: str = "auto", progress: bool = True, **choices: Any
) -> GenerateResult:
    """Generate with a checkpoint of any family.

    Args:
        checkpoint: a training checkpoint, or published weights.
        input: what the videos begin with.
        model: `diffusion` or `ar`, to be sure; `auto` asks the checkpoint.
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
    kind = AR if family_of_fields(source.architecture) is AUTOREGRESSIVE else DIFFUSION
    if model not in ("auto", kind):
        raise UserError(f"--model {model}: {checkpoint} holds a network of --model {kind}; use another checkpoint.")
    options = make_options(kind, checkpoint=checkpoint, input=input, **choices)
    if isinstance(options, AutoregressiveOptions):
        from cosmos_nemo.inference.autoregressive import generate_autoregressive

        return generate_autoregressive(options, source, progress=progress)
    from cosmos_nemo.inference.diffusion import generate_diffusion

    assert isinstance(options, DiffusionOptions)
    return generate_diffusion(options, source, progress=progress)


def make_options(kind: str, *, input: tuple[Path, ...] = (), **choices: Any) -> CommonOptions:
    """The options of a kind of model.

    Args:
        kind: a key of `OPTIONS`.
        input: what the videos begin with.
        **choices: fields of the options; None leaves a choice out.

    Raises:
        UserError: a choice that this kind does not have, one that it needs is missing, or a wrong value.
    """
    made = OPTIONS[kind]
    given = {name: value for name, value in choices.items() if value is not None}
    known = {field.name: field for field in fields(made)}
    if foreign := [_flag(name) for name in given if name not in known]:
        raise UserError(f"{', '.join(foreign)} is no choice of {kind} models; drop it, or use another checkpoint.")
    for name, field in known.items():
        if field.default is MISSING and name not in given:
            raise UserError(f"{_flag(name)} is missing; {kind} models need it.")
    if kind == DIFFUSION:
        if len(input) > 1:
            raise UserError("A diffusion model takes one --input at a time; run the command once for each.")
        return made(**given, input=input[0] if input else None)
    return made(**given, input=tuple(input))


def _flag(name: str) -> str:
    """A field's name on the command line."""
    return f"--{name.replace('_', '-')}"

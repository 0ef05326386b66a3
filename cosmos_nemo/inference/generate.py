"""Generate with whatever a checkpoint holds: find out its family and hand over to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cosmos_nemo.errors import UserError
from cosmos_nemo.inference.autoregressive_options import AutoregressiveOptions
from cosmos_nemo.inference.choices import OPTIONS, make_options
from cosmos_nemo.inference.diffusion_options import DiffusionOptions
from cosmos_nemo.inference.options import GenerateResult
from cosmos_nemo.inference.source import open_source


def generate(
    checkpoint: Path, *, input: tuple[Path, ...] = (), model: str = "auto", progress: bool = True, **choices: Any
) -> GenerateResult:
    """Generate with a checkpoint of any family.

    Args:
        checkpoint: a training checkpoint, or published weights.
        input: what the videos begin with.
        model: name of the family that the checkpoint must belong to; `auto` accepts any.
        progress: show a progress bar on the terminal.
        **choices: fields of the family's options; None leaves a choice to it.

    Returns:
        the written paths and the time it took.

    Raises:
        UserError: something that the user can put right; nothing is written then.
    """
    if model not in ("auto", *OPTIONS):
        raise UserError(f"--model {model} is unknown; use auto or one of {', '.join(OPTIONS)}.")
    source = open_source(Path(checkpoint).expanduser(), ema=bool(choices.get("ema")))
    family = source.architecture.family
    if family.name not in OPTIONS:
        raise UserError(f"{checkpoint} holds a {family.title} network, which generates nothing by itself.")
    if model not in ("auto", family.name):
        raise UserError(
            f"--model {model}: {checkpoint} holds a network of the family {family.name}; use another checkpoint."
        )
    options = make_options(family.name, checkpoint=checkpoint, input=input, **choices)
    if isinstance(options, AutoregressiveOptions):
        from cosmos_nemo.inference.autoregressive import generate_autoregressive

        return generate_autoregressive(options, source, progress=progress)
    from cosmos_nemo.inference.diffusion import generate_diffusion

    assert isinstance(options, DiffusionOptions)
    return generate_diffusion(options, source, progress=progress)

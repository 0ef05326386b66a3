"""The mathematics of diffusion training and sampling, on torch tensors, and the list of objectives.

Nothing here knows a trainer or a process group; a network is passed in as a function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cosmos_nemo.diffusion.denoising import Objective
from cosmos_nemo.diffusion.predict2 import Predict2Objective
from cosmos_nemo.errors import UserError

OBJECTIVES: tuple[type[Objective[Any]], ...] = (Predict2Objective,)


def objective_from_json(section: Mapping[str, Any]) -> Objective[Any]:
    """Return the objective that a run.json describes in its section `objective`.

    Raises:
        UserError: a kind or a field that this version does not know, or an impossible value.
    """
    kind = section.get("kind")
    for made in OBJECTIVES:
        if made.kind == kind:
            return made.from_json({name: value for name, value in section.items() if name != "kind"})
    known = ", ".join(made.kind for made in OBJECTIVES)
    raise UserError(f"The objective {kind!r} is unknown; this version has {known}. Update cosmos-nemo.")

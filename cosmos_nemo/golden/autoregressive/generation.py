"""Check greedy continuation, with and without a cache, and the probabilities that sampling draws from."""

import re
from typing import TYPE_CHECKING

from cosmos_nemo.golden.compare import Comparison, compare
from cosmos_nemo.golden.manifest import Case, Tensors
from cosmos_nemo.parallel.process import World

if TYPE_CHECKING:
    from cosmos_nemo.models.autoregressive.model import AutoregressiveTransformer

_PROBABILITIES = re.compile(r"top_p\.filtered_probs_T(?P<temperature>[0-9.]+)_p(?P<top_p>[0-9.]+)")


def check_generation(model: "AutoregressiveTransformer", case: Case, io: Tensors, world: World) -> list[Comparison]:
    """Compare every greedy sequence token for token, and every set of filtered probabilities."""
    from cosmos_nemo.golden.autoregressive.network import inputs_of
    from cosmos_nemo.models.autoregressive.sampling import continue_tokens, top_p_probabilities

    model.eval()
    comparisons = []
    for name in (name for name in io if name.startswith("greedy.") and name.endswith("sequence")):
        golden = io[name]
        prompt = golden[:, : int(io[name.removesuffix("sequence") + "prompt_len"])].to(world.device)
        for use_cache in (True, False):
            found = continue_tokens(
                model, prompt, num_tokens=golden.shape[1], use_cache=use_cache, **inputs_of(case, io, world)
            )
            label = f"{name}, {'with' if use_cache else 'without'} cache"
            comparisons.append(compare(label, found, golden, {"atol": 0.0}))
    for name in io:
        if match := _PROBABILITIES.fullmatch(name):
            # The file holds the logits of several positions; upstream samples from the last.
            found = top_p_probabilities(
                io["top_p.logits"][:, -1], temperature=float(match["temperature"]), top_p=float(match["top_p"])
            )
            comparisons.append(compare(name, found, io[name], case.allowed("loss")))
    return comparisons

"""Check the noise levels of training."""

import dataclasses

from cosmos_nemo.diffusion.predict2 import Predict2Objective
from cosmos_nemo.errors import UserError
from cosmos_nemo.golden.compare import Comparison, compare
from cosmos_nemo.golden.manifest import Case


def check_sigma_sampling(case: Case) -> list[Comparison]:
    """Turn the given uniforms into noise levels, for each `sigma.VARIANT` in the file."""
    io = case.load()
    low, high = case.setting("high_sigma_range")
    video = Predict2Objective(
        state_t=case.setting("state_t"),
        high_sigma_ratio=case.setting("high_sigma_ratio"),
        high_sigma_min=low,
        high_sigma_max=high,
    )
    comparisons = []
    for name in (name for name in io if name.startswith("sigma.")):
        if name.startswith("sigma.high_sigma"):
            objective = video
        elif name == "sigma.no_high_sigma":
            objective = dataclasses.replace(video, high_sigma_ratio=0.0)
        elif name == "sigma.text2image":
            objective = Predict2Objective.published("text2image")
        else:
            raise UserError(f"{io.file}: '{name}' is not a known variant of noise levels")
        sigma_B = objective.sigma_from_uniforms(io["in.u_gauss"], io["in.u_mask"], io["in.u_log"])
        comparisons.append(compare(name, sigma_B.reshape(io[name].shape), io[name], case.tolerance))
    return comparisons

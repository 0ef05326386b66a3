"""Check the angles of rotary positions."""

from cosmos_nemo.golden.compare import Comparison, compare
from cosmos_nemo.golden.manifest import Case
from cosmos_nemo.models.common.rope import rope_angles


def check_rope(case: Case) -> list[Comparison]:
    """Make the rotation angles of every table in the config."""
    io = case.load()
    comparisons = []
    for name, table in case.setting("tables").items():
        angles = rope_angles(
            tuple(case.setting("grid_T_H_W")),
            table["head_dim"],
            tuple(table["extrapolation_ratio_t_h_w"]),
            fps=table["fps"] if table["fps_modulation"] else None,
            base_fps=table["base_fps"],
        )
        comparisons.append(compare(name, angles.reshape(io[name].shape), io[name], case.tolerance))
    return comparisons

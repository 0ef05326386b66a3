"""What `cosmos-nemo ckpt diff` does: says in which tensors two checkpoints differ, and by how much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cosmos_nemo.checkpoints import report
from cosmos_nemo.checkpoints.convert import published_state_dict
from cosmos_nemo.checkpoints.megatron import load_training_checkpoint, run_architecture, stored_dtype
from cosmos_nemo.checkpoints.published import outline, read_published
from cosmos_nemo.checkpoints.shapes import published_architecture
from cosmos_nemo.families.rows import Naming
from cosmos_nemo.parallel.process import model_parallel_world
from cosmos_nemo.runs.layout import find_checkpoint, is_training_checkpoint


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far one tensor is from the other.

    Attributes:
        name: prefix-free original name.
        largest: max |a - b|; NaN where only one of the two is NaN.
        mean: mean |a - b|.
        scale: max |a|.
    """

    name: str
    largest: float
    mean: float
    scale: float


def diff(a: str | Path, b: str | Path, *, ema: bool = False, limit: int = 20) -> tuple[str, bool]:
    """Compare two checkpoints of any kind, tensor by tensor, under their original published names.

    Args:
        a: training checkpoint or published weights, of whatever layout.
        b: the other.
        ema: take the averaged weights of both.
        limit: tensors to list, those that differ most first; 0 lists all.

    Returns:
        the text to print, and whether both hold the same networks with equal values (dtypes may differ).

    Raises:
        UserError: one of them is unreadable.
    """
    ours, theirs = _weights(a, ema=ema), _weights(b, ema=ema)
    lines = [f"A: {a}", f"B: {b}"]
    shapes = [{name: tuple(tensor.shape) for name, tensor in outline(state).items()} for state in (ours, theirs)]
    lines += [f"only in A: {text}" for text in report.fold(name for name in shapes[0] if name not in shapes[1])]
    lines += [f"only in B: {text}" for text in report.fold(name for name in shapes[1] if name not in shapes[0])]
    common = [name for name in shapes[0] if name in shapes[1]]
    reshaped = {name: f"{list(shapes[0][name])} in A, {list(shapes[1][name])} in B" for name in common}
    lines += [f"shape: {text}" for text in report.fold([n for n in common if shapes[0][n] != shapes[1][n]], reshaped)]
    comparable = [name for name in common if shapes[0][name] == shapes[1][name]]
    found = sorted(
        (d for name in comparable if (d := compare(name, ours[name], theirs[name])) is not None),
        key=lambda d: (d.largest == d.largest, -d.largest),  # NaN first
    )
    differences = len(lines) > 2 or bool(found)
    if found:
        lines += _table(found[: limit or None])
        hidden = len(found) - len(found[: limit or None])
        lines += [f"... and {hidden} more; --limit 0 lists all"] if hidden else []
    verdict = f"{len(found)} of {len(comparable)} tensors differ" if differences else f"equal: {len(common)} tensors"
    return "\n".join([*lines, verdict]), not differences


def compare(name: str, a: Tensor, b: Tensor) -> Difference | None:
    """The difference of two tensors of one shape; None if all values are equal (NaN equals NaN)."""
    a, b = a.float(), b.float()
    if torch.equal(a, b):
        return None
    distance = (a - b).abs()
    # Infinities of the same sign and NaN on both sides are no difference.
    distance = torch.where((a == b) | (a.isnan() & b.isnan()), 0.0, distance)
    if not distance.any():
        return None
    return Difference(name=name, largest=float(distance.max()), mean=float(distance.mean()), scale=float(a.abs().max()))


def _table(found: list[Difference]) -> list[str]:
    """One line per tensor, numbers first because names are long."""
    head = f"{'max |A-B|':>10} {'mean |A-B|':>10} {'max |A|':>10}  tensor"
    return [head, *(f"{d.largest:10.3g} {d.mean:10.3g} {d.scale:10.3g}  {d.name}" for d in found)]


def _weights(path: str | Path, *, ema: bool) -> Mapping[str, Tensor]:
    """The weights of any checkpoint under prefix-free original names."""
    if is_training_checkpoint(path):
        info = find_checkpoint(path)
        with model_parallel_world():
            model = run_architecture(info).empty_network(dtype=stored_dtype(info))
            load_training_checkpoint(model, info, ema=ema)
            return published_state_dict(model, prefix="")
    state = read_published(path, ema=ema)
    architecture = published_architecture(state)
    if architecture.family.names.naming(state) is Naming.ORIGINAL:
        return state
    rows = architecture.rows
    original = {theirs: ours for row in rows for theirs, ours in zip(row.diffusers, row.original, strict=True)}
    return {original.get(name, name): tensor for name, tensor in state.items()}

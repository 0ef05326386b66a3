"""Check tensor-parallel files of published weights: cutting and merging, bit for bit."""

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cosmos_nemo import families
from cosmos_nemo.golden.compare import Comparison, compare, compare_names, failed
from cosmos_nemo.golden.manifest import Case

_ROLE = re.compile(r"tp(\d+)\.rank(\d+)")


def check_shards(case: Case, weights: Mapping[str, Tensor]) -> list[Comparison]:
    """Compare every file that upstream's script cuts, for every size the case has, and the merge of each set."""
    from cosmos_nemo.checkpoints.shards import MergedShards, part_of

    family = families.of_published(weights)
    whole = {family.names.bare(name): tensor for name, tensor in weights.items()}
    comparisons: list[Comparison] = []
    sets: dict[int, dict[Path, dict[str, Tensor]]] = defaultdict(dict)
    for role in case.files:
        if not (match := _ROLE.fullmatch(role)):
            continue
        size, rank = int(match[1]), int(match[2])
        golden = case.load(role)
        sets[size][Path(golden.file)] = {family.names.bare(name): tensor for name, tensor in golden.items()}
        ours = part_of(whole, family, rank=rank, size=size)
        comparisons += _equal(f"tp{size}.rank{rank}", ours, golden)
    for size, parts in sets.items():
        merged = MergedShards(parts, family)
        comparisons += _equal(f"tp{size}.merged", dict(merged), whole)
    return comparisons


def _equal(quantity: str, found: Mapping[str, Tensor], golden: Mapping[str, Tensor]) -> list[Comparison]:
    if wrong := compare_names(f"names of {quantity}", found, golden):
        return wrong
    changed = [name for name in golden if not torch.equal(found[name], golden[name])]
    if changed:
        return [failed(quantity, f"changed: {', '.join(changed)}")]
    return [compare(quantity, torch.tensor(0.0), torch.tensor(0.0), {"atol": 0.0})]

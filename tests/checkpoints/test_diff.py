import math

import pytest
import torch

from cosmos_nemo.checkpoints.commands import export_checkpoint, import_checkpoint
from cosmos_nemo.checkpoints.diff import compare, diff
from cosmos_nemo.checkpoints.shard_commands import shard_checkpoint
from tests.checkpoints.networks import AR, TINY_NAMED, name_the_size, random_published


@pytest.fixture
def model(tmp_path, monkeypatch):
    name_the_size(monkeypatch, AR)
    torch.save(random_published(AR), tmp_path / "model.pt")
    return tmp_path / "model.pt"


def test_one_network_is_equal_in_every_layout(tmp_path, model):
    shard_checkpoint(model, tmp_path / "parts.pt", tensor_parallel=2)
    import_checkpoint(model, tmp_path / "run")
    for other in (tmp_path / "parts.pt", tmp_path / "run"):
        text, same = diff(model, other)
        assert same and text.splitlines()[-1] == "equal: 36 tensors"


def test_diffusers_names_are_compared_under_the_original_ones(tmp_path):
    torch.save(random_published(TINY_NAMED), tmp_path / "model.pt")
    import_checkpoint(tmp_path / "model.pt", tmp_path / "run")
    export_checkpoint(tmp_path / "run", tmp_path / "peer", format="diffusers")
    assert diff(tmp_path / "model.pt", tmp_path / "peer")[1]


def test_differences_are_listed_with_the_largest_first(tmp_path, model):
    changed = random_published(AR)
    for name, by in (("model.norm.weight", 0.5), ("model.output.weight", 2.0)):
        changed[name][3] += by
    changed["model.layers.3.attention_norm.weight"] = torch.zeros(40)
    changed["model.layers.1.ffn_norm.weight"] = torch.zeros(41)
    torch.save(changed, tmp_path / "other.pt")
    text, same = diff(model, tmp_path / "other.pt")
    lines = text.splitlines()
    assert not same and lines[-1] == "2 of 35 tensors differ"
    assert lines[2] == "only in B: layers.3.attention_norm.weight"
    assert lines[3] == "shape: layers.1.ffn_norm.weight ([40] in A, [41] in B)"
    assert lines[5].split()[0] == "2" and lines[5].endswith("output.weight") and lines[6].split()[0] == "0.5"
    assert "... and 1 more" in diff(model, tmp_path / "other.pt", limit=1)[0]


def test_equal_values_of_another_dtype_are_equal_and_nan_is_not():
    a = torch.tensor([1.0, math.inf, math.nan])
    assert compare("x", a, a.bfloat16()) is None
    found = compare("x", a, torch.tensor([math.nan, math.inf, math.nan]))
    assert found is not None and math.isnan(found.largest)

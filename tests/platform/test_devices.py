import pytest
import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.platform.devices import pick_device


@pytest.mark.parametrize("wanted", [None, "auto"])
@pytest.mark.parametrize("available", [True, False])
def test_the_gpu_is_taken_if_there_is_one(monkeypatch, wanted, available):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert pick_device(wanted) == ("cuda" if available else "cpu")


def test_what_the_user_asks_for_is_taken(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("cuda:1") == "cuda:1" and pick_device("cpu") == "cpu"


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="--device cuda:1: torch finds no CUDA device; use --device cpu"):
        pick_device("cuda:1")

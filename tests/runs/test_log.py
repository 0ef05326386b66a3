from __future__ import annotations

from pathlib import Path

import pytest

from cosmos_nemo.errors import UserError
from cosmos_nemo.runs.log import RunLog


def test_output_root_comes_from_the_recipe_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTPUT_ROOT", "/from/environment")
    names = {"project": "p", "group": "g", "name": "n"}
    assert RunLog(**names).run_dir == Path("/from/environment/p/g/n")
    assert RunLog(**names, output_root="/from/recipe").run_dir == Path("/from/recipe/p/g/n")
    monkeypatch.delenv("OUTPUT_ROOT")
    assert RunLog(**names).run_dir == Path.cwd() / "checkpoints/p/g/n"


@pytest.mark.parametrize("wrong", [{"name": "a/b"}, {"save_every_n_steps": 0}, {"keep_last_k": 0}, {"wandb": "on"}])
def test_settings_that_cannot_work_are_refused(wrong: dict) -> None:
    with pytest.raises(UserError, match=f"log.{next(iter(wrong))}="):
        RunLog(**wrong)

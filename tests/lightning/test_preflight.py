"""What is settled before anything is built."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest

from cosmos_nemo import families
from cosmos_nemo.errors import UserError
from cosmos_nemo.lightning import preflight
from cosmos_nemo.models.common.lora import LoRA
from cosmos_nemo.parallel.sizes import ParallelSizes
from cosmos_nemo.runs.record import RunRecord, from_json


def _trainer(max_steps: int | None, max_epochs: int | None) -> Any:
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(max_steps=max_steps), max_epochs=max_epochs)
    return SimpleNamespace(max_steps=max_steps, max_epochs=max_epochs, fit_loop=loop)


@pytest.mark.parametrize(
    ("max_steps", "max_epochs", "steps", "words"),
    [
        (7, -1, 7, "7, 2.33 passes over the data"),
        (-1, 5, 15, "15, 5 passes over the data, the 5 passes of trainer.max_epochs"),
        (100, 5, 15, "15, 5 passes over the data, the 5 passes of trainer.max_epochs"),
        (7, 5, 7, "which end before the 5 passes of trainer.max_epochs (15 steps)"),
    ],
)
def test_a_run_ends_with_its_steps_or_its_passes_whichever_come_first(
    max_steps: int, max_epochs: int, steps: int, words: str
) -> None:
    trainer = _trainer(max_steps, max_epochs)
    said = preflight.settle_steps(trainer, SimpleNamespace(num_train=6), SimpleNamespace(global_batch_size=2))
    assert trainer.fit_loop.epoch_loop.max_steps == steps
    assert trainer.fit_loop.max_epochs == -1  # Lightning would count the ends of a loader that has none
    assert words in said


def test_passes_that_end_in_the_middle_of_a_batch_are_rounded_up() -> None:
    trainer = _trainer(-1, 1)
    preflight.settle_steps(trainer, SimpleNamespace(num_train=5), SimpleNamespace(global_batch_size=2))
    assert trainer.fit_loop.epoch_loop.max_steps == 3


def test_run_without_an_end_is_refused() -> None:
    with pytest.raises(UserError, match=r"trainer\.max_steps=-1; give the number"):
        preflight.settle_steps(_trainer(-1, -1), SimpleNamespace(num_train=5), SimpleNamespace(global_batch_size=2))


def test_parallelism_that_a_family_does_not_have_is_refused_by_its_setting() -> None:
    model = SimpleNamespace(family=families.by_name("cosmos_tokenizer"))
    sizes = ParallelSizes(context_parallel_size=2)
    words = "trainer.strategy: context_parallel_size=2: Cosmos video tokenizer training has no context parallelism"
    with pytest.raises(UserError, match=words):
        preflight.check_parallelism(model, sizes)
    model.family = families.by_name("predict2")
    preflight.check_parallelism(model, sizes)


LORA = asdict(LoRA(rank=4, targets=("q", "v")))


@pytest.mark.parametrize(
    ("had", "have", "message"),
    [
        (None, LORA, "made without adapters; unset model.lora, or choose another log.name"),
        (
            LORA,
            None,
            "made with adapters; set model.lora as it was, or start a new run .* model.dit_path, which merges",
        ),
        (LORA, LORA | {"rank": 8}, r"other adapters: rank 4 there, 8 here\. Set model.lora as it was"),
        (LORA, LORA | {"targets": ["q"]}, r"targets \['q', 'v'\] there, \['q'\] here"),
        (
            {"rank": 4, "alpha": 4.0, "targets": ["linear_qkv"], "seed": 0},
            LORA,
            "one for queries, keys and values together",
        ),
    ],
)
def test_a_run_with_other_adapters_is_not_continued(had: Any, have: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        preflight.check_adapters(_record(had), _record(have), weights_field="dit_path")


@pytest.mark.parametrize("lora", [None, LORA])
def test_a_run_with_the_same_adapters_is_continued(lora: Any) -> None:
    preflight.check_adapters(_record(lora and lora | {"seed": 3}), _record(lora), weights_field="dit_path")


def _record(lora: Any) -> RunRecord:
    """A run with these adapters, as it is read back."""
    record = RunRecord(family="predict2", task="video2world", model={"num_layers": 2}, lora=lora)
    return from_json(record.to_json(), source="run.json")

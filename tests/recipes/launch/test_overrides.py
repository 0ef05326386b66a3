"""A key finds its field, and a wrong key says which names there are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from cosmos_nemo.errors import UserError

fdl = pytest.importorskip("fiddle")
run = pytest.importorskip("nemo_run")

from recipes.launch import overrides  # noqa: E402


@dataclasses.dataclass(kw_only=True)
class Engine:
    """Has optional fields with postponed annotations, which NeMo-Run's parser cannot read."""

    power: int = 1
    fuel: str | None = None
    ratios: list[float] = dataclasses.field(default_factory=list)


class Vehicle:
    """Takes its own fields and passes the rest on."""

    def __init__(self, wheels: int = 4) -> None:
        self.wheels = wheels


class Car(Vehicle):
    """Swallows any keyword."""

    def __init__(self, engine: Engine | None = None, doors: int = 2, **more: int) -> None:
        super().__init__(**more)
        self.engine, self.doors = engine, doors


def drive(car: Car, name: str = "a") -> None:
    """The job."""


@pytest.fixture
def task() -> run.Partial:
    return run.Partial(drive, car=run.Config(Car, engine=run.Config(Engine)))


def test_nested_key_is_set_and_returned(task: run.Partial) -> None:
    assert overrides.apply(task, "car.engine.power=7") == "car.engine.power"
    assert task.car.engine.power == 7


def test_optional_and_list_fields_are_set(task: run.Partial) -> None:
    overrides.apply(task, "car.engine.fuel=diesel")
    overrides.apply(task, "car.engine.ratios=[1,0.5]")
    assert (task.car.engine.fuel, task.car.engine.ratios) == ("diesel", [1.0, 0.5])
    overrides.apply(task, "car.engine.fuel=None")
    assert task.car.engine.fuel is None


def test_text_that_names_a_module_stays_text(task: run.Partial) -> None:
    overrides.apply(task, "name=os.path")
    assert task.name == "os.path"


def test_arithmetic_works_on_numbers(task: run.Partial) -> None:
    for assignment, value in (("=6", 6), ("*=2", 12), ("-=2", 10), ("+=1", 11)):
        overrides.apply(task, f"car.engine.power{assignment}")
        assert task.car.engine.power == value
    with pytest.raises(UserError, match=r"name is 'a', and \+= needs numbers"):
        overrides.apply(task, "name+=b")


def test_field_behind_keyword_arguments_is_found_in_the_parent_class(task: run.Partial) -> None:
    overrides.apply(task, "car.wheels=3")
    assert task.car.wheels == 3


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (
            "car.engine.powr=1",
            "no field 'car.engine.powr' (did you mean car.engine.power?); car.engine has power, fuel, ratios",
        ),
        ("car.wheel=3", "no field 'car.wheel' (did you mean car.wheels?); car has engine, doors, wheels"),
        ("power=3", "no field 'power' (did you mean car.engine.power?); a recipe has car, name"),
        ("carr.engine.power=3", "no field 'carr' (did you mean car?); a recipe has car, name"),
        ("car.doors.x=3", "no field 'car.doors.x': car.doors is 2, which has no fields of its own"),
        ("car=fast", "car=fast: car has fields of its own; set car.engine, car.doors, car.wheels"),
        ("car.doors=many", "car.doors=many: needs a whole number"),
        ("doors", "'doors' is not key=value; write for example trainer.max_steps=10"),
    ],
)
def test_wrong_key_or_value_is_one_line_with_the_legal_names(task: run.Partial, assignment: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        overrides.apply(task, assignment)
    assert str(caught.value) == message


def test_yaml_of_a_few_fields_changes_these_alone(task: run.Partial, tmp_path: Path) -> None:
    (tmp_path / "few.yaml").write_text("car: {engine: {power: 9}}\nname: b\n")
    overrides.load_yaml(task, tmp_path / "few.yaml")
    assert (task.car.engine.power, task.car.doors, task.name) == (9, 2, "b")


def test_exported_yaml_loads_to_the_same_config(task: run.Partial, tmp_path: Path) -> None:
    overrides.apply(task, "car.engine.ratios=[1,0.5]")
    (tmp_path / "all.yaml").write_text(overrides.dump_yaml(task))
    fresh = run.Partial(drive, car=run.Config(Car, engine=None))
    overrides.load_yaml(fresh, tmp_path / "all.yaml")
    assert fresh == task


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("car: {wheel: 3}", "no field 'car.wheel'"),
        ("car: {doors: many}", "car.doors=many: needs a whole number"),
        ("- 1", "expected a mapping"),
        ("a: [", "not YAML"),
        ("car: {engine: {_target_: nowhere.Engine}}", "cannot import _target_ 'nowhere.Engine'"),
    ],
)
def test_wrong_yaml_is_one_line(task: run.Partial, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        overrides.load_yaml(task, tmp_path / "wrong.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_yaml_file_is_named(task: run.Partial, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--yaml .*none\.yaml: No such file"):
        overrides.load_yaml(task, tmp_path / "none.yaml")

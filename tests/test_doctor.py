"""The doctor finds what is missing and says how to get it."""

from __future__ import annotations

import pytest


def test_doctor_finds_the_pins_fulfilled(capsys: pytest.CaptureFixture[str]) -> None:
    from cosmos_nemo import doctor

    rows = list(doctor.pins())
    assert {row.name for row in rows} >= {"torch", "nemo_toolkit", "megatron-core"}
    assert [row for row in rows if row.problem] == []


def test_doctor_prints_every_assumption_of_the_platform(capsys: pytest.CaptureFixture[str]) -> None:
    from cosmos_nemo import doctor
    from cosmos_nemo.platform import table

    doctor.print_assumptions()
    printed = capsys.readouterr().out
    assert printed.count("    assumes  ") == len(table.assumptions()) > 10


def test_doctor_names_a_wrong_version_and_what_is_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import importlib.metadata

    from cosmos_nemo import doctor

    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["numpy<1", "no-such-package==3"])
    assert doctor.run(device=False) == 1
    out = capsys.readouterr().out
    assert "needs <1" in out
    assert "pip install 'no-such-package==3'" in out
    assert "2 problems" in out

"""The runner on small folders written here: rows, exit codes, and cases it does not understand."""

import pytest
import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.golden.runner import run
from tests.golden.folders import entry, lr_case, write_manifest


def rows(capsys) -> dict[str, str]:
    lines = capsys.readouterr().out.splitlines()[1:-1]
    return {line.split()[0]: line for line in lines}


def test_a_correct_case_passes_with_one_row_that_begins_with_its_name(tmp_path, capsys):
    write_manifest(tmp_path, lr_case(tmp_path))
    assert run([tmp_path]) == 0
    row = rows(capsys)["lr_decay"]
    assert row.split()[1] == "down.multiplier" and row.endswith("PASS")


def test_a_wrong_expected_value_fails(tmp_path, capsys):
    write_manifest(tmp_path, lr_case(tmp_path, "good"), lr_case(tmp_path, "bad", error=1e-3))
    assert run([tmp_path]) == 1
    table = rows(capsys)
    assert "1.0e-03" in table["bad"] and table["bad"].endswith("FAIL")
    assert table["good"].endswith("PASS")


@pytest.mark.parametrize(("kind", "family"), [("loss", "predict1"), ("sampler", "predict1")])
def test_a_family_that_is_not_built_is_said_and_fails_the_run(tmp_path, capsys, kind, family):
    write_manifest(tmp_path, lr_case(tmp_path, "later", kind=kind, family=family))
    assert run([tmp_path]) == 1
    assert "NOT YET" in rows(capsys)["later"]


@pytest.mark.parametrize(
    ("kind", "family"), [("teleport", "predict2"), ("lr_schedule", "predict9"), ("loss", "predict2+x")]
)
def test_an_unknown_kind_fails(tmp_path, capsys, kind, family):
    write_manifest(tmp_path, lr_case(tmp_path, "strange", kind=kind, family=family))
    assert run([tmp_path]) == 1
    row = rows(capsys)["strange"]
    assert "FAIL" in row and f"'{kind}'" in row


def test_a_damaged_file_fails_its_own_case_only(tmp_path, capsys):
    write_manifest(tmp_path, lr_case(tmp_path, "gone"), lr_case(tmp_path, "good"))
    (tmp_path / "gone.io.safetensors").unlink()
    assert run([tmp_path]) == 1
    table = rows(capsys)
    assert "FAIL" in table["gone"] and "missing" in table["gone"]
    assert table["good"].endswith("PASS")


def test_a_case_that_compares_nothing_fails(tmp_path, capsys):
    config = {"state_t": 4, "high_sigma_ratio": 0.0, "high_sigma_range": [1.0, 2.0]}
    tensors = {"in.u_gauss": torch.rand(3, dtype=torch.float64)}
    write_manifest(tmp_path, entry(tmp_path, "empty", "sigma_sampling", "predict2", config, tensors))
    assert run([tmp_path]) == 1
    assert "nothing to compare" in rows(capsys)["empty"]


def test_filter_selects_by_name_and_must_match_something(tmp_path, capsys):
    write_manifest(tmp_path, lr_case(tmp_path, "good"), lr_case(tmp_path, "bad", error=1.0))
    assert run([tmp_path], filter="^go") == 0
    assert list(rows(capsys)) == ["good"]
    with pytest.raises(UserError, match="matches none"):
        run([tmp_path], filter="absent")
    with pytest.raises(UserError, match="regular expression"):
        run([tmp_path], filter="(")


def test_verbose_prints_every_quantity(tmp_path, capsys):
    config = {"state_t": 16, "high_sigma_ratio": 0.0, "high_sigma_range": [200.0, 1e5]}
    u = torch.tensor([0.5, 0.5], dtype=torch.float64)
    tensors = {f"in.{name}": u.clone() for name in ("u_gauss", "u_mask", "u_log")}
    # The median of a log-normal is 1, so sigma is 1 for images and sqrt(16) for videos.
    tensors |= {"sigma.text2image": torch.ones(2, 1), "sigma.no_high_sigma": torch.full((2, 1), 4.0)}
    write_manifest(tmp_path, entry(tmp_path, "median", "sigma_sampling", "predict2", config, tensors))
    assert run([tmp_path], verbose=True) == 0
    output = capsys.readouterr().out
    assert output.count("\nmedian ") == 2 and output.count("PASS") == 3


def test_a_failure_names_the_first_quantity_that_deviates(tmp_path, capsys):
    case = lr_case(tmp_path, "chain")
    # A later schedule deviates more, but the earlier one is where to look.
    case["config"] = {name: dict(case["config"]["down"], f_max=[peak]) for name, peak in (("near", 0.51), ("far", 5.0))}
    steps, golden = torch.arange(11), 0.5 - 0.05 * torch.arange(11).double()
    tensors = {
        f"{name}.{part}": value.clone()
        for name in ("near", "far")
        for part, value in (("steps", steps), ("multiplier", golden))
    }
    write_manifest(tmp_path, entry(tmp_path, "chain", "lr_schedule", "predict2", case["config"], tensors))
    assert run([tmp_path]) == 1
    row = rows(capsys)["chain"]
    assert row.split()[1] == "far.multiplier" and row.endswith("first to deviate: near.multiplier")

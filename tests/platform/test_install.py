from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cosmos_nemo.platform.table import assumptions
from tests.distributed import run_ranks

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the stand-ins are for machines without CUDA")


def test_users_torch_is_left_alone_and_megatron_sees_the_cpu() -> None:
    (seen,) = run_ranks("tests.platform.ranks:what_users_see", 1)
    # An unknown Megatron-core is one clear line.
    assert seen.pop("refused").startswith("UserError: megatron-core 0.99.0 is not known to this project")
    assert seen == {
        "import_is_light": True,
        "torch_untouched": True,
        "type": "torch.FloatTensor",
        "cuda_available": False,
        "no_mode_left": 0,
        "megatron_sees": "cpu",
        "pinned_move": "Tensor",
    }


def test_one_two_data_parallel_and_two_tensor_parallel_ranks_agree_and_resume(tmp_path: Path) -> None:
    run = "tests.platform.ranks:train_save_load"
    ((one,),) = run_ranks(run, 1, str(tmp_path / "one"), 1)
    both = run_ranks(run, 2, str(tmp_path / "data"), 1, True)
    data, bf16 = [fp32 for fp32, _ in both], [bf16 for _, bf16 in both]
    tensor = [result for (result,) in run_ranks(run, 2, str(tmp_path / "tensor"), 2)]
    for result in (one, *data, *tensor):
        assert result["straight"] == result["resumed"]
        assert result["same_parameters"]
        assert result["step"] == 6
        assert result["recompute_has_gradient"]
        assert result["straight"] == pytest.approx(one["straight"], rel=1e-5)
    for result in bf16:  # the weights that are trained are fp32 copies
        assert result["straight"] == result["resumed"] != one["straight"]
        assert result["same_parameters"]
    for mine in data:
        for a, b in zip(mine["parameters"], one["parameters"], strict=True):
            torch.testing.assert_close(torch.tensor(a), torch.tensor(b), rtol=1e-4, atol=1e-5)
    assert data[0]["parameters"] == data[1]["parameters"]
    assert tensor[0]["tensor_parallel_draw"] != tensor[1]["tensor_parallel_draw"]


def test_every_lifted_assumption_has_a_place_and_a_reason() -> None:
    rows = assumptions()
    assert len({row.where for row in rows}) == len(rows)
    assert all(row.where and row.assumes and row.here for row in rows)
    assert {row.kind for row in rows} == {"namespace", "methods", "replaced", "gap"}

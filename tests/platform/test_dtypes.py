import pytest
import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.platform.dtypes import DTYPES, compute_dtype, parse_dtype


@pytest.mark.parametrize(("name", "dtype"), [*DTYPES.items(), ("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_a_dtype_is_found_by_its_long_and_its_short_name(name, dtype):
    assert parse_dtype(name) is dtype


def test_none_and_dtypes_stay_what_they_are():
    assert parse_dtype(None) is None and parse_dtype(torch.float16) is torch.float16


def test_an_unknown_name_is_refused_with_the_legal_ones():
    with pytest.raises(UserError, match="--dtype fp8 is unknown; use one of float32, bfloat16, float16 "):
        parse_dtype("fp8")


@pytest.mark.parametrize(
    ("device", "default"), [("cpu", torch.float32), ("cuda", torch.bfloat16), ("cuda:1", torch.bfloat16)]
)
def test_a_gpu_computes_in_bfloat16_and_a_cpu_in_float32_unless_told_otherwise(device, default):
    assert compute_dtype(device) is default
    assert compute_dtype(torch.device(device)) is default
    assert compute_dtype(device, "float16") is torch.float16

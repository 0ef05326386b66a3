"""Choose a device, and know what devices can do at most, from their makers' data sheets."""

from __future__ import annotations

import torch

from cosmos_nemo.errors import UserError

PEAK_BF16_TFLOPS = {
    # Dense bf16, no sparsity, from NVIDIA's data sheets. The longest matching name wins.
    "A100": 312.0,
    "A800": 312.0,
    "H100": 989.0,
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H800": 989.0,
    "H200": 989.0,
    "GH200": 989.0,
    "B200": 2250.0,
    "GB200": 2250.0,
    "L40S": 362.0,
    "L40": 181.0,
    "A40": 149.7,
    "RTX 4090": 165.2,
}


def pick_device(wanted: str | None = None) -> str:
    """Return the device that the user asked for; for None or "auto", the GPU if there is one.

    Raises:
        UserError: a GPU is asked for, and there is none.
    """
    available = torch.cuda.is_available()
    if wanted in (None, "auto"):
        return "cuda" if available else "cpu"
    if wanted.startswith("cuda") and not available:
        raise UserError(f"--device {wanted}: torch finds no CUDA device; use --device cpu.")
    return wanted


def device_peak_tflops() -> float | None:
    """Peak dense bf16 TFLOP/s of this process's device; None on a CPU or for an unknown device."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    matches = [known for known in PEAK_BF16_TFLOPS if known in name]
    return PEAK_BF16_TFLOPS[max(matches, key=len)] if matches else None

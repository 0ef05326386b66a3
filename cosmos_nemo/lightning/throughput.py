"""How fast a step was: tokens per second, TFLOP/s, and the share of the device's peak."""

from __future__ import annotations

from dataclasses import dataclass

import torch

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


def device_peak_tflops() -> float | None:
    """Peak dense bf16 TFLOP/s of this process's device; None on a CPU or for an unknown device."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    matches = [known for known in PEAK_BF16_TFLOPS if known in name]
    return PEAK_BF16_TFLOPS[max(matches, key=len)] if matches else None


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one optimizer step has to do, over all processes.

    Attributes:
        tokens: tokens of the global batch; of a tokenizer, frames.
        tflop: floating-point operations, in units of 1e12; forward and backward, without recomputation.
        num_devices: processes that share the work.
        peak_tflops: of one device, None if unknown.
        unit: what `tokens` counts, for people.
        seq_length: tokens of a sample as pipeline stages hand them on; None if they never do.
    """

    tokens: int
    tflop: float
    num_devices: int
    peak_tflops: float | None
    unit: str = "video tokens"
    seq_length: int | None = None

    def rates(self, seconds: float) -> dict[str, float | None]:
        """tokens_per_second of all devices, tflops of one device, mfu (None if the peak is unknown)."""
        tflops = self.tflop / seconds / self.num_devices
        return {
            "tokens_per_second": self.tokens / seconds,
            "tflops": tflops,
            "mfu": tflops / self.peak_tflops if self.peak_tflops else None,
        }

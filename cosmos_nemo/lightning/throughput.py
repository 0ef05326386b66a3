"""How fast a step was: tokens per second, TFLOP/s, and the share of the device's peak."""

from __future__ import annotations

from dataclasses import dataclass


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

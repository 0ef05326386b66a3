"""How fast a step was: tokens per second, TFLOP/s, and the share of the device's peak."""

from __future__ import annotations

from dataclasses import dataclass

from cosmos_nemo.families.family import SampleWork
from cosmos_nemo.platform.devices import device_peak_tflops


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one optimizer step has to do, over all processes.

    Attributes:
        tokens: tokens of the global batch; of a tokenizer, frames.
        tflop: floating-point operations, in units of 1e12; forward and backward, without recomputation.
        num_devices: processes that share the work.
        peak_tflops: of one device, None if unknown.
        unit: what `tokens` counts, for people.
        seq_length: tokens of a sample, as pipeline stages hand them on.
    """

    tokens: int
    tflop: float
    num_devices: int
    peak_tflops: float | None
    unit: str = "video tokens"
    seq_length: int | None = None

    @classmethod
    def of_batch(cls, sample: SampleWork, batch: int, *, num_devices: int, bf16: bool) -> Work:
        """Return the work of training on a global batch, forward and backward.

        Args:
            sample: of one sample.
            batch: samples per optimizer step.
            num_devices: processes in all.
            bf16: whether the matrix products are in bf16, the only precision whose peak is known.
        """
        return cls(
            tokens=sample.tokens * batch,
            tflop=3 * sample.forward_flops * batch / 1e12,
            num_devices=num_devices,
            peak_tflops=device_peak_tflops() if bf16 else None,
            unit=sample.unit,
            seq_length=sample.tokens,
        )

    def rates(self, seconds: float) -> dict[str, float | None]:
        """tokens_per_second of all devices, tflops of one device, mfu (None if the peak is unknown)."""
        tflops = self.tflop / seconds / self.num_devices
        return {
            "tokens_per_second": self.tokens / seconds,
            "tflops": tflops,
            "mfu": tflops / self.peak_tflops if self.peak_tflops else None,
        }

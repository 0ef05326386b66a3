"""Legal parallel sizes, for messages."""

from __future__ import annotations


def common_divisors(*numbers: int) -> list[int]:
    """All numbers that divide every one of ``numbers``, ascending."""
    return [d for d in range(1, min(numbers) + 1) if all(n % d == 0 for n in numbers)]

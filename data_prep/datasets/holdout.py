"""Choose what is held out for validation, by a hash: equal names and seeds give equal choices."""

import hashlib

from cosmos_nemo.errors import UserError


def hold_out(names: set[str], fraction: float, seed: int) -> set[str]:
    """Return the names that are held out for validation: at least one and not all, if there are two or more.

    Raises:
        UserError: the fraction is below 0, or 1 or more.
    """
    if not 0 <= fraction < 1:
        raise UserError(f"--val-fraction {fraction} must be at least 0 and below 1")
    ranked = sorted(names, key=lambda name: (keyed_number(seed, "split", name), name))
    num_val = round(fraction * len(names))
    if fraction > 0 and len(names) > 1:
        num_val = min(max(num_val, 1), len(names) - 1)
    return set(ranked[:num_val])


def keyed_number(seed: int, *keys: str) -> int:
    """Return a number in [0, 2**64) that depends on the arguments alone."""
    text = "\0".join((str(seed), *keys))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")

"""Keyed randomness: a value depends on what it is for, never on what was drawn before it."""

import hashlib

import torch


def generator(seed: int, *keys: int | str) -> torch.Generator:
    """Return a fresh CPU generator that is a function of `seed` and `keys` only.

    The same key gives the same numbers in every process, at any data-parallel size, after any resume and on any
    device, because the numbers are drawn on the CPU and moved afterwards. Python's own `hash` is salted per
    process, so a BLAKE2b digest is used.

    Args:
        seed: the run's seed.
        keys: what the numbers are for, e.g. (step, sample id, "epsilon"). 1 and "1" are different keys.

    Returns: a torch.Generator on the CPU.
    """
    text = repr((int(seed), *(key if isinstance(key, str) else int(key) for key in keys)))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little", signed=True))

"""Learning-rate schedules of the published recipes."""

import math
from collections.abc import Sequence

from cosmos_nemo.errors import UserError


def lambdalinear(
    step: int,
    *,
    warm_up_steps: Sequence[int],
    cycle_lengths: Sequence[int],
    f_start: Sequence[float],
    f_max: Sequence[float],
    f_min: Sequence[float],
) -> float:
    """Return the learning-rate multiplier at a scheduler step: linear warm-up, then linear decay, per cycle.

    With c the first cycle whose cumulative end is >= step (a boundary step belongs to the earlier cycle) and
    m = step - start of c:

        m < warm_up:  f_start + (f_max - f_start) m / warm_up
        else:         f_min + (f_max - f_min) (length - m) / (length - warm_up)

    With warm_up 0 the multiplier starts at f_max and f_start is unused.

    Args:
        step: completed optimizer steps (0 before the first).
        warm_up_steps: per cycle, steps of warm-up.
        cycle_lengths: per cycle, steps in all, warm-up included.
        f_start: per cycle, multiplier at its first step.
        f_max: per cycle, multiplier at the end of warm-up.
        f_min: per cycle, multiplier at its last step.

    Returns: the multiplier of the base learning rate.

    Raises:
        UserError: the lists differ in length, a warm-up is not shorter than its cycle, or the step is past the
            last cycle.
    Source: nvidia-cosmos/cosmos-predict2, functional/lr_scheduler.py (LambdaLinearScheduler).
    """
    cycles = list(zip(warm_up_steps, cycle_lengths, f_start, f_max, f_min, strict=False))
    lengths = {len(values) for values in (warm_up_steps, cycle_lengths, f_start, f_max, f_min)}
    if lengths != {len(cycles)} or not cycles:
        raise UserError(f"lambdalinear needs five equally long, non-empty lists; their lengths are {sorted(lengths)}.")
    start = 0
    for warm_up, length, low, high, end in cycles:
        if not 0 <= warm_up < length:
            raise UserError(f"lambdalinear warm-up of {warm_up} steps in a cycle of {length}; make it shorter.")
        m = step - start
        if m <= length:
            if m < warm_up:
                return low + (high - low) * m / warm_up
            return end + (high - end) * (length - m) / (length - warm_up)
        start += length
    raise UserError(f"lambdalinear has no value at step {step}: its cycles end at {start}; lengthen the last cycle.")


def warmup_cosine(step: int, *, warm_up_steps: int, decay_steps: int, lr: float, min_lr: float) -> float:
    """Return the learning rate at a scheduler step: linear warm-up from 0, then half a cosine down to `min_lr`.

        step < warm_up:  lr step / warm_up
        step > decay:    min_lr
        else:            min_lr + (lr - min_lr) (1 + cos(pi (step - warm_up) / (decay - warm_up))) / 2

    Args:
        step: completed optimizer steps (0 before the first, which therefore has rate 0 under warm-up).
        warm_up_steps: steps of warm-up.
        decay_steps: steps until `min_lr`, warm-up included.
        lr: peak.
        min_lr: end.

    Raises:
        UserError: the warm-up is not shorter than the decay.
    Source: nvidia-cosmos/cosmos-predict1, utils/scheduler.py (WarmupCosineLR).
    """
    if not 0 <= warm_up_steps < decay_steps:
        raise UserError(f"warm-up of {warm_up_steps} steps in a schedule of {decay_steps}; make it shorter.")
    if step < warm_up_steps:
        return lr * step / warm_up_steps
    if step > decay_steps:
        return min_lr
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * (step - warm_up_steps) / (decay_steps - warm_up_steps))) / 2

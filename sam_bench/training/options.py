"""The number of steps in an epoch and in a run."""

import math

from sam_bench.options.run import Train


def steps_per_epoch(samples: int, batch_size: int, drop_last: bool) -> int:
    """Batches in an epoch; a last batch of a single sample is always left out (BatchNorm has no variance there)."""
    full, rest = divmod(samples, batch_size)
    return max(1, full + (rest > 1 and not drop_last))


def steps_in_all(options: Train, per_epoch: int, step: int, share: float) -> int:
    """Steps of a run of which `step` steps took `share` of the budget: an estimate unless the budget is epochs."""
    total = math.ceil(options.epochs * per_epoch)
    if options.budget != "epochs" and share:
        total = max(step, round(step / share))
    return total if options.max_steps is None else min(total, options.max_steps)

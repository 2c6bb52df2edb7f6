"""The number of steps in an epoch."""


def steps_per_epoch(samples: int, batch_size: int, drop_last: bool) -> int:
    """Batches in an epoch; a last batch of a single sample is always left out (BatchNorm has no variance there)."""
    full, rest = divmod(samples, batch_size)
    return max(1, full + (rest > 1 and not drop_last))

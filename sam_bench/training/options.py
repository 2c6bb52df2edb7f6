"""How long and in what portions a run trains: configs/train."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """configs/train: see the YAML for what each key means."""

    epochs: int
    max_steps: int | None
    budget: str
    seconds: float | None
    batch_size: int
    eval_batch_size: int
    drop_last: bool
    clip_norm: float | None
    label_smoothing: float
    patience: int | None
    eval_every: int
    checkpoint_seconds: float


def steps_per_epoch(samples: int, batch_size: int, drop_last: bool) -> int:
    """Batches in an epoch; a last batch of a single sample is always left out (BatchNorm has no variance there)."""
    full, rest = divmod(samples, batch_size)
    return max(1, full + (rest > 1 and not drop_last))

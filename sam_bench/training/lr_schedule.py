"""Learning-rate schedules: the factor on the base learning rate at a (fractional) epoch of a run of `epochs`.

A schedule depends only on the position, so a resumed run needs no schedule state and every arm has the same curve.
"""

import math
from collections.abc import Sequence


def _ramp(epoch: float, warmup_epochs: float, start: float = 0.0) -> float:
    """Linear rise from `start` to 1 over the warm-up."""
    return start + (1 - start) * epoch / warmup_epochs


def _past(epoch: float, epochs: float, warmup_epochs: float) -> float:
    """The position in [0, 1] in the part after the warm-up."""
    return min(1.0, (epoch - warmup_epochs) / max(epochs - warmup_epochs, 1e-9))


def constant(epoch: float, epochs: float, *, warmup_epochs: float = 0.0) -> float:
    """1, after a linear warm-up from 0."""
    return _ramp(epoch, warmup_epochs) if epoch < warmup_epochs else 1.0


def cosine(epoch: float, epochs: float, *, warmup_epochs: float = 0.0, final_factor: float = 0.0) -> float:
    """Half a cosine from 1 to `final_factor`, after a linear warm-up from 0 (Loshchilov & Hutter, ICLR 2017)."""
    if epoch < warmup_epochs:
        return _ramp(epoch, warmup_epochs)
    half = 0.5 * (1 + math.cos(math.pi * _past(epoch, epochs, warmup_epochs)))
    return final_factor + (1 - final_factor) * half


def noam(
    epoch: float, epochs: float, *, warmup_epochs: float = 2.0, start_factor: float = 0.1, final_factor: float = 0.1
) -> float:
    """GROVER's schedule: linear from `start_factor` to 1, then exponential to `final_factor`."""
    if epoch < warmup_epochs:
        return _ramp(epoch, warmup_epochs, start_factor)
    return float(final_factor ** _past(epoch, epochs, warmup_epochs))


def step(
    epoch: float, epochs: float, *, milestones: Sequence[float], gamma: float, warmup_epochs: float = 0.0
) -> float:
    """`gamma` to the power of the number of milestones (fractions of the run) that are past."""
    if epoch < warmup_epochs:
        return _ramp(epoch, warmup_epochs)
    return float(gamma ** sum(epoch >= m * epochs for m in milestones))

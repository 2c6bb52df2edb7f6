"""What a method claims of itself. `sam-bench check` holds it to that; no step reads it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Limit(NamedTuple):
    """With `options` the method is another one: `method` is a file of configs/optimizer.

    Weights after a dozen steps in float32 agree within `tolerance`, which is above 1e-7 where the two guard a division
    by zero differently.
    """

    options: Mapping[str, Any]
    method: str
    tolerance: float = 1e-7


@dataclass(frozen=True)
class Claims:
    """The attribute `claims` of an optimizer class; whatever is left out is not checked.

    Args:
        passes: gradient evaluations of the first `steps` steps on batches of `n` samples, as `passes(optimizer, steps,
            n)`: the cost in the paper.
        neutral: the options with which, besides rho = 0, the method is its base.
        limits: options with which the method is another one.
        small: options with which each kind of step comes up within a dozen steps, for the checks.
        one_process: whether two ranks train as one process on the whole batch does. No for a method that chooses among
            the samples of its own rank.
        recorded: class name of the method whose recorded trajectories this class reproduces; by default its own.
    """

    passes: Callable[[Any, int, int], float] | None = None
    neutral: Mapping[str, Any] = field(default_factory=dict)
    limits: tuple[Limit, ...] = ()
    small: Mapping[str, Any] = field(default_factory=dict)
    one_process: bool = True
    recorded: str | None = None

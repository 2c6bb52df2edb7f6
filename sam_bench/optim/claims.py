"""What a method claims about itself. `sam-bench check` tests the claims; training does not read them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Limit(NamedTuple):
    """With `options` the method equals another one: `method`, a file of configs/optimizer.

    The weights after a dozen steps in float32 agree within `tolerance`. It is above 1e-7 if the two methods guard
    differently against a division by zero.
    """

    options: Mapping[str, Any]
    method: str
    tolerance: float = 1e-7


@dataclass(frozen=True)
class Claims:
    """The attribute `claims` of an optimizer class; a claim that is left out is not checked.

    Args:
        passes: `passes(optimizer, steps, n)` is the number of gradient evaluations in the first `steps` steps on
            batches of `n` samples: the cost in the paper.
        neutral: the options that, together with rho = 0, make the method its base.
        limits: options with which the method equals another method.
        small: options for the checks, with which a dozen steps contain each kind of step.
        one_process: whether two ranks give the same training as one process on the whole batch. False for a method that
            chooses among the samples of its own rank.
        recorded: class name of the method whose recorded runs this class reproduces; None is its own name.
    """

    passes: Callable[[Any, int, int], float] | None = None
    neutral: Mapping[str, Any] = field(default_factory=dict)
    limits: tuple[Limit, ...] = ()
    small: Mapping[str, Any] = field(default_factory=dict)
    one_process: bool = True
    recorded: str | None = None

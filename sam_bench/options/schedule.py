"""The options of the learning-rate schedules: configs/schedule."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from sam_bench.options.rules import at_least, stated

_FRACTIONS = stated("a list of fractions of the run, each in [0, 1]", lambda v: all(0 <= m <= 1 for m in v))


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Options of every schedule."""

    warmup_epochs: Annotated[float, at_least(0), "epochs of linear warm-up"]


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """Constant after the warm-up."""

    target: ClassVar = "sam_bench.schedule.constant"


@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """Half a cosine after the warm-up."""

    target: ClassVar = "sam_bench.schedule.cosine"
    final_factor: Annotated[float, at_least(0), "factor on the learning rate at the end"]


@dataclass(frozen=True, kw_only=True)
class Noam(Schedule):
    """The schedule of GROVER."""

    target: ClassVar = "sam_bench.schedule.noam"
    start_factor: Annotated[float, at_least(0), "factor on the learning rate at the start"]
    final_factor: Annotated[float, at_least(0), "factor on the learning rate at the end"]


@dataclass(frozen=True, kw_only=True)
class Step(Schedule):
    """A factor at each milestone."""

    target: ClassVar = "sam_bench.schedule.step"
    milestones: Annotated[list[float], _FRACTIONS, "fractions of the run"]
    gamma: Annotated[float, at_least(0), "factor on the learning rate at each milestone"]

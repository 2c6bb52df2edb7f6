"""The contract of the optimizers: ten points."""

from collections.abc import Sequence
from typing import Any

from sam_bench.contract.equivalence import cost, limits, neutral, resume
from sam_bench.contract.golden import trajectories
from sam_bench.contract.loops import loops
from sam_bench.contract.precision import precision
from sam_bench.contract.ranks import ranks
from sam_bench.contract.result import Point, Report, results
from sam_bench.contract.robustness import failures, statistics
from sam_bench.contract.subject import Subject

POINTS: tuple[Point, ...] = (
    neutral, limits, cost, resume, statistics, failures, loops, precision, ranks, trajectories,
)  # fmt: skip


def optimizer_contract(target: Any, *, points: Sequence[Point] = POINTS, **options: Any) -> Report:
    """Check an optimizer against the ten points of docs/optimizers/contract.md; takes some seconds.

    `target` is the stem of a YAML of configs/optimizer, a class or function called as `target(base, model,
    **options)`, or a class of torch optimizers, called as `target(params, **options)`. Raises UsageError where it
    cannot be made. `report.demand()` raises AssertionError where a point failed, for use in a test.
    """
    return check(Subject.of(target, options=options), points)


def check(subject: Subject, points: Sequence[Point] = POINTS) -> Report:
    """The report on an existing subject."""
    return Report("optimizer", subject.name, results(points, subject))

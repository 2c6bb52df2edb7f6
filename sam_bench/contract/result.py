"""The result of a check: a verdict, what was seen, and what to do."""

import enum
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

VERSION = "1.0"  # of the contract: increased for a new or stricter point


class Verdict(enum.StrEnum):
    """The verdict on a point. A finding is worth a look but does not break the contract."""

    PASSED = "passed"
    FAILED = "failed"
    FINDING = "finding"
    NOT_APPLICABLE = "not applicable"


class Broken(Exception):
    """A point does not hold: what was seen, and advice if it differs from the point's general advice."""

    def __init__(self, seen: str, advice: str = ""):
        super().__init__(seen)
        self.advice = advice


class Finding(Broken):
    """Something worth a look that does not break the contract."""


class NotApplicable(Exception):
    """The point does not apply here; the message says why."""


@dataclass(frozen=True)
class Result:
    """One point: its verdict, what was seen, and what to do if it did not pass."""

    point: str
    title: str
    verdict: Verdict
    seen: str
    advice: str = ""


@dataclass(frozen=True)
class Report:
    """All points of one optimizer, model, data set or launcher; `measured` is its cost, if measured."""

    kind: str
    name: str
    results: tuple[Result, ...]
    measured: Mapping[str, Any] = field(default_factory=dict)
    version: str = VERSION

    @property
    def failed(self) -> list[Result]:
        """The points that do not hold."""
        return [result for result in self.results if result.verdict is Verdict.FAILED]

    @property
    def passed(self) -> bool:
        """Whether no point failed."""
        return not self.failed

    @property
    def badge(self) -> str:
        """One line: whether it passed, and the version of the contract."""
        if self.passed:
            return f"{self.name} passes sam_bench contract {self.version}"
        return f"{self.name} fails sam_bench contract {self.version}: {', '.join(r.point for r in self.failed)}"

    def demand(self) -> None:
        """Raise AssertionError with each failed point, what was seen and what to do."""
        lines = [f"{r.point}. {r.title}: {r.seen}. {r.advice}".rstrip() for r in self.failed]
        if lines:
            raise AssertionError("\n".join([self.badge, *lines]))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "contract": self.version,
            "kind": self.kind,
            "name": self.name,
            "passed": self.passed,
            "badge": self.badge,
            "points": [asdict(result) for result in self.results],
            "measured": dict(self.measured),
        }


Check = Callable[..., str]


@dataclass(frozen=True)
class Point:
    """A check: called with its subject, it returns a Result, whatever the subject raises.

    `check` returns what was seen, or raises Broken, Finding or NotApplicable.
    """

    number: str
    title: str
    advice: str
    check: Check

    def __call__(self, *subject: Any) -> Result:
        verdict, advice = Verdict.PASSED, ""
        try:
            seen = self.check(*subject)
        except NotApplicable as reason:
            verdict, seen = Verdict.NOT_APPLICABLE, str(reason)
        except Broken as broken:
            verdict = Verdict.FINDING if isinstance(broken, Finding) else Verdict.FAILED
            seen, advice = str(broken), broken.advice or self.advice
        except Exception as error:  # any exception of the checked code is a result
            lines = str(error).strip().splitlines() or ["no message"]
            seen = f"it raised {type(error).__name__}: {lines[0]}{where(error)}"
            verdict, advice = Verdict.FAILED, self.advice
        return Result(self.number, self.title, verdict, seen, advice)


def where(error: BaseException) -> str:
    """` (my_opt.py, line 12)`: the innermost line that is neither of this package nor of an installed one."""
    own = Path(__file__).parents[1]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_file()]
    theirs = [f for f in frames if "site-packages" not in f.filename and not Path(f.filename).is_relative_to(own)]
    return f" ({Path(theirs[-1].filename).name}, line {theirs[-1].lineno})" if theirs else ""


def point(number: str, title: str, advice: str) -> Callable[[Check], Point]:
    """Makes a Point of a function."""
    return lambda check: Point(number, title, advice, check)


def results(points: Sequence[Point], *subject: Any) -> tuple[Result, ...]:
    """All points, in their order."""
    return tuple(each(*subject) for each in points)

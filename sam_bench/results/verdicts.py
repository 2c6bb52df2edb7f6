"""Published claims beside what our records say: reproduced, not reproduced or undecided, by a test named beforehand."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from sam_bench.api import Finished, Record
from sam_bench.errors import UsageError, did_you_mean
from sam_bench.results.arms import BASE_ARM, Arm, Block, blocks
from sam_bench.results.pooled import pooled
from sam_bench.results.stats import Comparison, pairs_needed
from sam_bench.results.tables.cells import number, p_value, unit
from sam_bench.results.tables.render import Cell, Section
from sam_bench.results.verify import unfair
from sam_bench.store.studies import NoStudy

CLAIMS = Path(__file__).with_name("claims.yaml")
POOLED = "pooled"
Verdict = Literal["reproduced", "not reproduced", "undecided", "not finished"]
Records = Callable[[str, Sequence[str]], tuple[int, Sequence[Record]]]  # (planned runs, records) of some words


@dataclass(frozen=True)
class Claim:
    """What somebody published, and the comparison that decides it.

    `test` is the name of a data set, whose runs alone are then looked at, or `pooled` for all of the experiment's. With
    `at_most` the claim is about cost: `optimizer` needs at most so many gradient evaluations a step (a count: no test).
    Otherwise it is that `optimizer` is better than erm.
    """

    claim: str
    source: str
    experiment: str
    optimizer: str
    test: str
    overrides: tuple[str, ...] = ()
    at_most: float | None = None

    @property
    def command(self) -> str:
        """What makes the table that the verdict comes from."""
        return " ".join(["sam-bench table", self.experiment, *self.overrides])


@dataclass(frozen=True)
class Decision:
    """A verdict and what it rests on; `gain` is positive where the method is better, `p` is after Holm."""

    claim: Claim
    verdict: Verdict
    reason: str
    pairs: int = 0
    gain: str = "-"
    p: float = math.nan


def read(path: Path = CLAIMS) -> list[Claim]:
    """The claims of a file; raises UsageError for one that is no such file."""
    known = [field.name for field in fields(Claim)]
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        for entry in found:
            if unknown := sorted(entry.keys() - {*known}):
                raise UsageError(f"{path}: a claim has no {unknown[0]!r}. {did_you_mean(unknown[0], known)}")
        return [Claim(**{**entry, "overrides": tuple(entry.get("overrides", ()))}) for entry in found]
    except (OSError, yaml.YAMLError, AttributeError, TypeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a list of claims: {error}.") from None


def decide(claim: Claim, planned: int, records: Sequence[Record]) -> Decision:
    """The verdict on a claim from the records of its experiment, of which `planned` runs are to be made.

    Nothing is decided before all runs are there: who looks and stops when the result is good finds too much.
    """
    done = [record for record in records if record["status"] == "finished"]
    if len(done) < planned:
        return Decision(claim, "not finished", f"{len(done)} of {planned} runs")
    if claim.test != POOLED:  # Holm's family is then the methods on this data set
        records, done = _on(claim.test, records), _on(claim.test, done)
    if claim.at_most is not None:
        return _of_cost(claim, done)
    versus, scale, digits, doubts = _comparison(claim, blocks(records))
    if versus is None:
        return Decision(claim, "undecided", f"the records have no comparison of {claim.optimizer} with {BASE_ARM}")
    gain = " ".join(
        [number(versus.mean * scale, digits),
         f"[{number(versus.low * scale, digits)}, {number(versus.high * scale, digits)}]"]
    )  # fmt: skip
    verdict, reason = _of_test(versus)
    if doubts:
        verdict, reason = "undecided", f"not a fair comparison: {doubts[0]}"
    return Decision(claim, verdict, reason, versus.n, gain, versus.p_holm)


R = TypeVar("R", bound=Record)


def _on(dataset: str, records: Sequence[R]) -> list[R]:
    return [record for record in records if record["labels"]["dataset"] == dataset]


def _of_cost(claim: Claim, done: Sequence[Finished]) -> Decision:
    """By the largest count of the arm's runs."""
    assert claim.at_most is not None
    runs = [run["grad_evals_per_step"] for run in done if run["labels"]["optimizer"] == claim.optimizer]
    counts = [count for count in runs if count is not None]
    if not counts:
        return Decision(claim, "undecided", f"the records have no run of {claim.optimizer}")
    verdict: Verdict = "reproduced" if max(counts) <= claim.at_most else "not reproduced"
    reason = f"{min(counts):.3f} to {max(counts):.3f} gradient evaluations a step; claimed: at most {claim.at_most:g}"
    return Decision(claim, verdict, reason, len(counts))


def _comparison(claim: Claim, found: Sequence[Block]) -> tuple[Comparison | None, float, int, list[str]]:
    """The comparison that a claim names, gains positive; the scale and decimals to print it in; what is unfair."""
    if claim.test == POOLED:
        row = next((row for row in pooled(found) if row.name == claim.optimizer), None)
        arms = [arm for block in found for arm in block.arms if arm.name == claim.optimizer]
        return (row.versus if row else None), 1.0, 3, _doubts(arms)
    block = next((block for block in found if block.dataset == claim.test), None)
    arm = next((arm for arm in block.arms if arm.name == claim.optimizer), None) if block else None
    if block is None or arm is None or arm.versus is None:
        return None, 1.0, 3, []
    scale, digits, _ = unit(block)
    return _gain(arm.versus, higher=block.metric["higher_is_better"]), scale, digits, _doubts([arm])


def _doubts(arms: Sequence[Arm]) -> list[str]:
    return [message for arm in arms for _, message in unfair(arm)]


def _gain(versus: Comparison, *, higher: bool) -> Comparison:
    """The comparison with the sign of a gain."""
    if higher:
        return versus
    ends = {"low": -versus.high, "high": -versus.low, "mean": -versus.mean}
    return Comparison(**{**{field.name: getattr(versus, field.name) for field in fields(Comparison)}, **ends})


def _of_test(versus: Comparison) -> tuple[Verdict, str]:
    """Only the named test decides: an interval is not corrected for the number of methods."""
    if versus.too_few:
        return "undecided", f"too few pairs ({versus.n}; one test needs {pairs_needed(1)})"
    if versus.significant and versus.mean <= 0:
        return "not reproduced", "the method is worse than erm"
    if versus.significant:
        return "reproduced", "the method is better than erm"
    return "undecided", "the test finds no difference"


def section(decisions: Sequence[Decision]) -> Section:
    """The verdicts as a printed table."""
    rows = []
    for d in decisions:
        p = "-" if math.isnan(d.p) else p_value(d.p)
        cells: list[Any] = [d.claim.claim, d.claim.source, d.claim.test, str(d.pairs or "-"), d.gain, p]
        rows.append([*map(Cell, cells), Cell(d.verdict, bold=True), Cell(d.reason), Cell(d.claim.command)])
    header = ["claim", "source", "test", "n", "gain over erm [95 %]", "p (Holm)", "verdict", "why", "command"]
    notes = [
        "reproduced: better than erm, p < 0.05 in the named test after Holm over all methods of the experiment. "
        "not reproduced: worse than erm by the same test. undecided: neither; that is no proof of equality.",
        "pooled: differences paired by data set and seed, in units of erm's standard deviation on that data set; "
        "else the runs on the named data set, in the metric's unit. The interval is not corrected for the number of "
        "methods. A claim about cost is a count and needs no test. "
        "Nothing is decided before all planned runs are there.",
    ]
    return Section("Published claims", header, rows, notes)


def verdicts(claims: Sequence[Claim], records_of: Records) -> list[Decision]:
    """The decision on each claim. Raises UsageError for words that name no experiment."""
    known: dict[tuple, tuple[int, Sequence[Record]] | None] = {}  # several claims share an experiment
    found = []
    for claim in claims:
        words = (claim.experiment, claim.overrides)
        if words not in known:
            try:
                known[words] = records_of(*words)
            except NoStudy:
                known[words] = None
        made = known[words]
        if made is None:
            found.append(Decision(claim, "not finished", "not all of its data sets are tuned"))
        else:
            found.append(decide(claim, *made))
    return found

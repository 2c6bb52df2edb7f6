"""Time to target: what each method spends until its valid metric first reaches what the base reaches, or a number."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sam_bench.api import Record
from sam_bench.results.arms import BASE_ARM, Arm, Block
from sam_bench.results.stats import time_to_target
from sam_bench.results.tables.cells import number, unit
from sam_bench.results.tables.render import Cell, Section
from sam_bench.store.index import curve

CLOCKS = {"grad_evals": 0, "train_seconds": 1}  # columns of the curve -> decimals in the table


def target_of(block: Block) -> float:
    """The median best valid metric of the base arm's runs, of the first base arm where there are several; NaN without.

    The median, because one lucky seed of the base would set a mark that nothing reaches.
    """
    base = next((arm for arm in block.arms if arm.labels["optimizer"] == BASE_ARM and arm.runs), None)
    known = [value for run in base.runs if not math.isnan(value := _best_valid(run))] if base else []
    return statistics.median(known) if known else math.nan


def _best_valid(run: Mapping) -> float:
    value = run["metrics"].get(f"valid/{run['metric']['name']}")
    return math.nan if value is None else value


def spent(run: Record, target: float) -> dict[str, float]:
    """The clocks of a run when its valid metric first reaches the target, infinite if never; {} without a curve."""
    rows = curve(run) if "path" in run else []  # records that were not loaded from a folder have none
    name, higher = run["metric"]["name"], run["metric"]["higher_is_better"]
    return {clock: time_to_target(rows, name, target, higher, clock) for clock in CLOCKS} if rows else {}


def costs_to_target(found: Sequence[Block], clock: str) -> dict[str, list[float]]:
    """For the arms that all blocks have: the cost of the target for every (block, seed) that all of them have."""
    blocks = [{arm.name: arm for arm in block.arms if arm.runs} for block in found]
    shared = [name for name in blocks[0] if all(name in arms for arms in blocks)]
    costs: dict[str, list[float]] = {name: [] for name in shared}
    if not shared or any(math.isnan(target_of(block)) for block in found):
        return {}
    for block, arms in zip(found, blocks, strict=True):
        target = target_of(block)
        for seeds in sorted(set.intersection(*(set(arms[name].scores) for name in shared))):
            for name in shared:
                place = list(arms[name].scores).index(seeds)
                costs[name].append(spent(arms[name].runs[place], target).get(clock, math.inf))
    return costs if any(costs.values()) else {}


def costs_of(block: Block, goal: float) -> dict[Arm, list[dict[str, float]]]:
    """What the runs of each arm spend until they reach the goal, as in `spent`; arms without curves are left out."""
    costs = {arm: [found for run in arm.runs if (found := spent(run, goal))] for arm in block.arms}
    return {arm: found for arm, found in costs.items() if found}


@dataclass(frozen=True)
class Reached:
    """How many of an arm's runs reach the target, and the median and range of what those spend; NaN where none does."""

    n: int
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, spent: Sequence[float]) -> "Reached":
        """From the costs of all runs, infinite for one that does not reach it."""
        known = [cost for cost in spent if math.isfinite(cost)]
        ends = (statistics.median(known), min(known), max(known)) if known else (math.nan, math.nan, math.nan)
        return cls(len(known), *ends)


def sections(found: Sequence[Block], target: float | None = None) -> list[Section]:
    """A table for each block: how many seeds reach the target, and the median of what those spend; None: the base's."""
    return [section for block in found if (section := _section(block, target)) is not None]


def _section(block: Block, target: float | None) -> Section | None:
    goal = target_of(block) if target is None else target
    if math.isnan(goal):
        return None
    scale, digits, name = unit(block)
    name = name.replace("test/", "valid/")
    rows = [_row(arm, found) for arm, found in costs_of(block, goal).items()]
    if not rows:
        return None
    source = "the median best valid metric of the base arm's runs" if target is None else "given"
    notes = [
        f"target: {name} of {number(goal * scale, digits)}, {source}; looked at once an epoch.",
        "to it: the median over the runs that reach it; the others have no such cost, so read it beside their number.",
    ]
    header = ["optimizer", "runs that reach it", "grad_evals to it", "train_seconds to it"]
    return Section(f"time to target of {block.title}", header, rows, notes)


def _row(arm: Arm, costs: Sequence[Mapping[str, float]]) -> list[Cell]:
    each = {clock: Reached.of([found[clock] for found in costs]) for clock in CLOCKS}
    n = min(reached.n for reached in each.values())
    row = [Cell(arm.name), Cell(f"{n} of {len(costs)}", value=n / len(costs))]
    for clock, digits in CLOCKS.items():
        row.append(
            Cell(number(each[clock].median, digits), value=each[clock].median) if n else Cell("never", value=math.inf)
        )
    return row

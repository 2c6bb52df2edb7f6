"""What the report's charts with a row for each optimizer read: time to target, the three budgets, published values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sam_bench.api import Record
from sam_bench.results import budgets
from sam_bench.results.arms import BASE_ARM, Arm, Block
from sam_bench.results.looks import Look, looks
from sam_bench.results.tables.cells import unit
from sam_bench.results.target import CLOCKS, Reached, costs_of, target_of


def published(arm: Arm, scale: float) -> list[dict[str, Any]]:
    """Every value that a paper prints for this arm, in the unit of the table."""
    return [
        {"value": found.value * scale, "source": found.source,
         "spread": None if found.spread is None else found.spread * scale}
        for found in arm.published
    ]  # fmt: skip


def to_target(block: Block, style: Mapping[str, Look]) -> dict[str, Any] | None:
    """What the arms of a block spend until they reach its target; None without a target, or without curves."""
    goal = target_of(block)
    costs = {} if math.isnan(goal) else costs_of(block, goal)
    if not costs:
        return None
    arms = [
        {"name": arm.name, "look": style[arm.name].packed, "of": len(found)}
        | {clock: asdict(Reached.of([cost[clock] for cost in found])) for clock in CLOCKS}
        for arm, found in costs.items()
    ]
    return {"goal": goal * unit(block)[0], "arms": arms}


def of_budgets(experiment: str, records: Sequence[Record]) -> list[dict[str, Any]]:
    """A chart for each data set, model and base that has records under more than one budget."""
    return [_parts(experiment, parts) for parts in budgets.beside(records)]


def _parts(experiment: str, parts: Mapping[str, Block]) -> dict[str, Any]:
    first, style = next(iter(parts.values())), looks(list(parts.values()))
    drawn = [_part(budget, block, style) for budget, block in parts.items()]
    return {
        "title": f"{experiment}: {first.title}",
        "metric": unit(first)[2].removeprefix("test/"),
        "higher": first.metric["higher_is_better"],
        "parts": drawn,
    }


def _part(budget: str, block: Block, style: Mapping[str, Look]) -> dict[str, Any]:
    scale = unit(block)[0]
    arms = [arm for arm in block.arms if arm.score.n and not math.isnan(arm.score.mean)]
    base = next((arm for arm in arms if arm.labels["optimizer"] == BASE_ARM and arm.base is None), None)
    shown = [
        {"name": arm.name, "look": style[arm.name].packed, "mean": arm.score.mean * scale, "n": arm.score.n,
         "std": arm.score.std * scale, "spent": arm.cost(budgets.SPENT[budget])}
        for arm in arms
    ]  # fmt: skip
    return {
        "budget": budget,
        "name": budgets.BUDGETS[budget],
        "base": None if base is None else base.score.mean * scale,
        "arms": shown,
    }

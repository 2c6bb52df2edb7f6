"""What the report's charts of sharpness read: runs against their gap, landscapes, successive gradients."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sam_bench.results.arms import Arm, Block
from sam_bench.results.flatness import MEASURES
from sam_bench.results.measured import TRACES, beside, epoch_means, measured, value
from sam_bench.store.measurements import Gradients, Landscape, Sharpness

RUNS = 300  # points of a scatter at most, so that the page stays small


def charts(found: Sequence[Block]) -> dict[int, dict[str, Any]]:
    """The data of each block's charts, by its place among `found`; only blocks of which something was measured."""
    chosen, charts = measured(found), {}
    for place, block in enumerate(found):
        planes, traces = beside(block, "landscape"), beside(block, "gradients")
        arms = [arm for arm in block.arms if arm.runs]
        parts = {
            "points": [point for arm in arms for point in _points(arm, chosen.get(arm, ()))][:RUNS],
            "planes": [plane for arm in arms if (plane := _plane(arm, planes))],
            "traces": [trace for arm in arms if (trace := _trace(arm, traces))],
        }
        if any(parts.values()):
            charts[place] = parts
    return charts


def _points(arm: Arm, contents: Sequence[Sharpness]) -> list[dict[str, Any]]:
    """The runs of an arm: each measure, and the gap that it may explain."""
    points: list[dict[str, Any]] = [
        {"arm": arm.name, "seed": content["labels"]["seed"], "gap": value(content, "gap_loss")}
        | {name: value(content, name) for name in MEASURES}
        for content in contents
    ]
    return [point for point in points if math.isfinite(point["gap"])]


def _plane(arm: Arm, contents: Mapping[str, Landscape]) -> dict[str, Any] | None:
    """The landscape of an arm's first run that has one."""
    content = next((contents[run["run_id"]] for run in arm.runs if run["run_id"] in contents), None)
    if content is None:
        return None
    return {"arm": arm.name, "seed": content["labels"]["seed"], "axis": content["axis"], "losses": content["losses"]}


def _trace(arm: Arm, contents: Mapping[str, Gradients]) -> dict[str, Any] | None:
    """Mean and sample standard deviation over the runs of each epoch's mean, for every traced quantity."""
    runs = [epoch_means(contents[run["run_id"]]["rows"]) for run in arm.runs if run["run_id"] in contents]
    if not runs:
        return None
    curves = {}
    for name in TRACES:
        epochs = sorted({epoch for run in runs for epoch in run.get(name, {})})
        values = [[run[name][epoch] for run in runs if epoch in run.get(name, {})] for epoch in epochs]
        means = [sum(row) / len(row) for row in values]
        stds = [_std(row, mean) for row, mean in zip(values, means, strict=True)]
        curves[name] = {"epoch": epochs, "mean": means, "std": stds}
    return {"arm": arm.name, "n": len(runs), "curves": curves}


def _std(values: Sequence[float], mean: float) -> float:
    return math.sqrt(sum((x - mean) ** 2 for x in values) / (len(values) - 1)) if len(values) > 1 else 0.0

"""What the report's charts of tuning read: expected best against trials and cost, trials against their options."""

from sam_bench.results.arms import Block
from sam_bench.results.looks import looks_of
from sam_bench.results.tables.cells import PERCENT
from sam_bench.results.tuned import tunings
from sam_bench.results.tuning import base_level, curve_of, results_of


def charts(block: Block) -> dict | None:
    """The data of a block's charts; None where no arm was tuned, or the study is not at hand."""
    arms = tunings(block)
    if not arms:
        return None
    scale = 100.0 if arms[0].metric in PERCENT else 1.0
    style = looks_of([arm.labels["optimizer"] for arm in arms])
    curves, points = [], []
    for arm in arms:
        name, found = arm.labels["optimizer"], curve_of(arm, arms)
        own = {"arm": name, "look": style[name].packed}
        curve = {key: [getattr(point, key) for point in found] for key in ("k", "grad_evals")}
        curve |= {key: [getattr(point, key) * scale for point in found] for key in ("mean", "std")}
        curves.append(own | {"curve": curve})
        for trial, value in zip(arm.trials, results_of(arm, arms), strict=True):
            points.append(own | {"value": value * scale, "values": dict(trial.values)})
    numeric = {key: rule.get("log", False) for arm in arms for key, rule in arm.space.items() if _is_numeric(rule)}
    return {"metric": arms[0].metric, "base": base_level(arms) * scale, "curves": curves, "points": points,
            "options": numeric}  # fmt: skip


def _is_numeric(rule) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in rule.get("choices", [rule.get("low")]))

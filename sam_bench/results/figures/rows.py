"""Figures with a row for each method: test and valid metric, time to target, the three budgets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sam_bench.api import Record
from sam_bench.results import budgets, target
from sam_bench.results.arms import BASE_ARM, Arm, Block
from sam_bench.results.figures.plots import CLOCKS, axis_name, grid, mark
from sam_bench.results.looks import Look, looks
from sam_bench.results.tables.cells import number, unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3  # panels side by side, fewer where names are long
NAME = 12  # letters of a name for which there is room beside three panels
ROW = 0.27  # inches
BELOW, ABOVE = 0.28, -0.28  # of a row: the valid metric below the test metric's mark, published values above it
INK, QUIET = "#1a1d21", "#6b7280"


def metric_by_dataset(found: Sequence[Block]) -> Figure | None:
    """Test metric of every run (rings), with mean and spread; the valid metric and published values beside it."""
    style = looks(found)
    columns = min(COLUMNS, len(found), max(1, COLUMNS * NAME // max(map(len, style))))
    most = max(len(block.arms) for block in found)
    figure, axes = grid(math.ceil(len(found) / columns), columns, height=0.6 + ROW * most)
    cited = False
    for axis, block in zip(axes.flat, found, strict=False):
        scale = unit(block)[0]
        arms = [arm for arm in block.arms if arm.score.n]
        for place, arm in enumerate(arms):
            _metric_row(axis, arm, place, style[arm.name], scale)
            cited = cited or bool(arm.published)
        axis.set(xlabel=axis_name(block, "test").replace("test/", "", 1))
        axis.set_title(block.title if columns < COLUMNS else block.title.replace(" / ", "\n", 1), loc="left")
        name_rows(axis, [arm.name for arm in arms])
    for axis in axes.flat[len(found) :]:
        axis.set_axis_off()
    _explain(figure, cited)
    return figure


def _metric_row(axis: Axes, arm: Arm, place: int, look: Look, scale: float) -> None:
    values = [value * scale for value in arm.scores.values() if not math.isnan(value)]
    axis.plot(values, [place] * len(values), "o", mfc="none", mec=look.color, ms=3, mew=0.6, alpha=0.7)
    mark(axis, look, arm.score.mean * scale, place, xerr=_spread(arm.score.std) * scale, ms=5)
    if arm.valid.n:
        spread = _spread(arm.valid.std) * scale
        axis.errorbar(arm.valid.mean * scale, place + BELOW, xerr=spread, fmt="|", color=look.color, elinewidth=0.6)
    for value in arm.published:
        spread = (value.spread or 0.0) * scale
        axis.errorbar(value.value * scale, place + ABOVE, xerr=spread, fmt="x", color=INK, elinewidth=0.6, ms=3.5)


def _explain(figure: Figure, cited: bool) -> None:
    """What stands where in a row."""
    from matplotlib.lines import Line2D

    entries: list[tuple[str, str, float, str]] = [("s", QUIET, 4, "test: mean, standard deviation")]
    entries += [("o", "none", 3, "test: one run")]
    entries += [("|", QUIET, 6, "valid: mean, standard deviation")]
    entries += [("x", INK, 3.5, "published, under its own protocol")] if cited else []
    handles = [
        Line2D(
            [], [], linestyle="none", marker=marker, mfc=face, mec=face if face == INK else QUIET, ms=size, label=text
        )
        for marker, face, size, text in entries
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)


def time_to_target(found: Sequence[Block]) -> Figure | None:
    """What each method spends until its valid metric reaches the base's median best: median and range over the runs.

    Beside it how many of its runs reach it.
    """
    goals = [(block, goal) for block in found if not math.isnan(goal := target.target_of(block))]
    chosen = [(block, goal, costs) for block, goal in goals if (costs := target.costs_of(block, goal))]
    if not chosen:
        return None
    style = looks(found)
    most = max(len(costs) for _, _, costs in chosen)
    figure, axes = grid(len(chosen), len(target.CLOCKS), height=0.6 + ROW * most, sharey="row")
    for row, (block, goal, costs) in zip(axes, chosen, strict=True):
        scale, digits, name = unit(block)
        for axis, clock in zip(row, target.CLOCKS, strict=True):
            for place, (arm, spent) in enumerate(costs.items()):
                _target_row(axis, place, style[arm.name], [cost[clock] for cost in spent])
            axis.set(xlabel=f"{CLOCKS[clock]} to the target\n(right: runs that reach it)", xlim=(0, None))
        name_rows(row[0], [arm.name for arm in costs])
        target_text = f"target {name.replace('test/', 'valid/')} of {number(goal * scale, digits)}"
        row[0].set_title(f"{block.title}: {target_text}", loc="left")
    return figure


def _target_row(axis: Axes, place: int, look: Look, spent: Sequence[float]) -> None:
    reached = target.Reached.of(spent)
    if reached.n:
        ends = [[reached.median - reached.low], [reached.high - reached.median]]
        mark(axis, look, reached.median, place, xerr=ends, ms=5)
    axis.annotate(
        f"{reached.n} of {len(spent)}", (1.0, place), xycoords=("axes fraction", "data"), ha="left", va="center",
        fontsize=7, xytext=(3, 0), textcoords="offset points",
    )  # fmt: skip


def three_budgets(found: Sequence[Block]) -> Figure | None:
    """Test metric under equal epochs, gradient evaluations and seconds; the line is erm's mean under each."""
    records: list[Record] = []
    for arm in (arm for block in found for arm in block.arms):
        records += arm.runs
        records += arm.failed
    tables = budgets.beside(records)
    if not tables:
        return None
    figure, axes = grid(
        len(tables), len(budgets.BUDGETS), sharey="row", sharex="row",
        height=0.6 + ROW * max(len(budgets.names(parts)) for parts in tables),
    )  # fmt: skip
    for row, parts in zip(axes, tables, strict=True):
        names, style = budgets.names(parts), looks(list(parts.values()))
        for axis, (budget, text) in zip(row, budgets.BUDGETS.items(), strict=True):
            axis.set_title(text, loc="left")
            if budget in parts:
                _budget_panel(axis, parts[budget], names, style)
            else:
                axis.text(0.5, 0.5, "no records", transform=axis.transAxes, ha="center", va="center", color=QUIET)
        name_rows(row[0], names)
        first = next(iter(parts.values()))
        row[0].set_title(f"{first.title}\n{row[0].get_title(loc='left')}", loc="left")
    return figure


def _budget_panel(axis: Axes, block: Block, names: Sequence[str], style: dict[str, Look]) -> None:
    scale = unit(block)[0]
    for arm in (arm for arm in block.arms if arm.score.n):
        mark(
            axis, style[arm.name], arm.score.mean * scale, names.index(arm.name), xerr=_spread(arm.score.std) * scale,
            ms=5,
        )  # fmt: skip
        if arm.base is None and arm.labels["optimizer"] == BASE_ARM:
            axis.axvline(arm.score.mean * scale, color=QUIET, lw=0.8, ls="--", zorder=0)
    axis.set(xlabel=axis_name(block, "test"))


def name_rows(axis: Axes, names: Sequence[str]) -> None:
    """The names beside their rows, with room above the first and below the last."""
    axis.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.3, -0.7))


def _spread(std: float) -> float:
    """Nothing to draw for one run."""
    return 0.0 if math.isnan(std) else std

"""Each figure: a function from blocks of arms to a matplotlib figure, or None where the records do not allow it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sam_bench.results.arms import Block
from sam_bench.results.looks import Look, looks
from sam_bench.results.tables.cells import PERCENT
from sam_bench.store.index import curve

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

CLOCKS = {"epoch": "epoch", "grad_evals": "gradient evaluations", "train_seconds": "training seconds"}
HANDLE, LETTER = 0.55, 0.055  # inches of a legend's mark, and of a letter beside it
LINE, ROOM = 0.15, 2  # inches of a legend's line, and the lines for which `grid` has room
WIDTH = 6.8  # inches, the text width of a two-column page
BAND = {"alpha": 0.12, "linewidth": 0}


def learning_curves(found: Sequence[Block]) -> Figure | None:
    """Valid metric over epochs, gradient evaluations and training seconds: mean and sample standard deviation."""
    import seaborn as sns

    tables = [(block, curve_table(block)) for block in found]
    tables = [(block, table) for block, table in tables if len(table)]
    if not tables:
        return None
    style = looks(found)
    figure, axes = grid(len(tables), len(CLOCKS), height=1.9, sharey="row")
    for row, (block, table) in zip(axes, tables, strict=True):
        for axis, clock in zip(row, CLOCKS, strict=True):
            sns.lineplot(
                table, x=clock, y="value", hue="arm", style="arm", **palette(style, table["arm"]),
                errorbar="sd", err_kws=BAND, ax=axis, legend=False,
            )  # fmt: skip
            mark_ends(axis, style, table, clock, "value")
            axis.set(xlabel=CLOCKS[clock], ylabel=axis_name(block, "valid"), title="")
        row[0].xaxis.get_major_locator().set_params(integer=True)
        row[0].set_title(block.title, loc="left")
    legend(figure, with_runs([block for block, _ in tables]), style)
    return figure


def curve_table(block: Block) -> DataFrame:
    """All learning curves of a block, one line per run and epoch; the clocks are averaged over an arm's runs."""
    import pandas as pd

    scale = 100.0 if block.metric["name"] in PERCENT else 1.0
    rows = []
    for arm in block.arms:
        for run in arm.runs:
            for line in curve(run):
                value = line.get(f"valid/{block.metric['name']}", math.nan) * scale
                rows.append({"arm": arm.name, "value": value, **{clock: line[clock] for clock in CLOCKS}})
    table = pd.DataFrame(rows)
    if len(table):
        # Runs of an arm reach an epoch at slightly different times: a band needs one place on the axis for all.
        for clock in ("grad_evals", "train_seconds"):
            table[clock] = table.groupby(["arm", "epoch"])[clock].transform("mean")
        table = table.dropna(subset=["value"])
    return table


def sampled_share(found: Sequence[Block]) -> Figure | None:
    """Share of each epoch's steps that took the second gradient, for methods that do not always: mean and spread."""
    import pandas as pd
    import seaborn as sns

    chosen = []
    for block in found:
        rows = [
            {"arm": arm.name, "epoch": line["epoch"], "share": line["sam_fraction"]}
            for arm in block.arms
            for run in arm.runs
            if 0 < (run["sam_fraction"] or 0) < 1
            for line in curve(run)
        ]
        chosen += [(block, pd.DataFrame(rows))] if rows else []
    if not chosen:
        return None
    style = looks(found)
    figure, axes = grid(math.ceil(len(chosen) / 2), min(2, len(chosen)), height=1.9, sharey=True)
    for axis, (block, table) in zip(axes.flat, chosen, strict=False):
        sns.lineplot(
            table, x="epoch", y="share", hue="arm", style="arm", **palette(style, table["arm"]),
            errorbar="sd", err_kws=BAND, ax=axis, legend=False,
        )  # fmt: skip
        mark_ends(axis, style, table, "epoch", "share")
        axis.set(xlabel="epoch", ylabel="sam_fraction of the epoch", ylim=(-0.04, 1.04))
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_title(block.title, loc="left")
    for axis in axes.flat[len(chosen) :]:
        axis.set_axis_off()
    shown = {name for _, table in chosen for name in table["arm"]}
    legend(figure, [name for name in style if name in shown], style)
    return figure


def metric_against_cost(found: Sequence[Block]) -> Figure | None:
    """Test metric against gradient evaluations and training seconds; the line joins what no other arm dominates."""
    style = looks(found)
    costs = ("grad_evals", "train_seconds")
    figure, axes = grid(len(found), len(costs), height=2.3)
    for row, block in zip(axes, found, strict=True):
        scale = 100.0 if block.metric["name"] in PERCENT else 1.0
        for axis, cost in zip(row, costs, strict=True):
            points = []
            for arm in block.arms:
                if not arm.score.n or math.isnan(arm.score.mean):
                    continue
                x, y = arm.cost(cost), arm.score.mean * scale
                points.append((x, y))
                spread = 0.0 if math.isnan(arm.score.std) else arm.score.std * scale
                mark(axis, style[arm.name], x, y, yerr=spread, elinewidth=0.8)
            front = pareto(points, block.metric["higher_is_better"])
            axis.plot(*zip(*front, strict=True), color="0.6", linewidth=0.8, zorder=0) if len(front) > 1 else None
            axis.set(xlabel=CLOCKS[cost], ylabel=axis_name(block, "test"), xlim=(0, None))
        row[0].set_title(block.title, loc="left")
    legend(figure, with_runs(found), style, line=False)
    return figure


def pareto(points: Sequence[tuple[float, float]], higher_is_better: bool) -> list[tuple[float, float]]:
    """The (cost, metric) points that no other point beats in both, by rising cost."""
    sign = -1.0 if higher_is_better else 1.0
    front: list[tuple[float, float]] = []
    for cost, value in sorted(points, key=lambda point: (point[0], sign * point[1])):
        if not front or sign * value < sign * front[-1][1]:
            front.append((cost, value))
    return front


def axis_name(block: Block, split: str) -> str:
    """`test/accuracy (%), higher is better`."""
    per_cent = " (%)" if block.metric["name"] in PERCENT else ""
    arrow = "higher" if block.metric["higher_is_better"] else "lower"
    return f"{split}/{block.metric['name']}{per_cent}\n({arrow} is better)"


def grid(rows: int, columns: int, height: float, **options: Any) -> tuple[Figure, np.ndarray]:
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=(WIDTH, height * rows + 0.5), squeeze=False, **options)


def palette(style: Mapping[str, Look], present: Iterable[str]) -> dict[str, Any]:
    """What seaborn needs to give every arm its look."""
    order = [name for name in style if name in set(present)]
    colours, dashes = {name: style[name].color for name in order}, {name: style[name].dashes for name in order}
    return {"hue_order": order, "style_order": order, "palette": colours, "dashes": dashes}


def mark(axis: Axes, look: Look, x: float, y: float, **options: Any) -> None:
    """One marker, with error bars where `options` has them."""
    axis.errorbar(x, y, fmt=look.letter, color=look.color, mfc=look.face, **({"capsize": 2} | options))


def mark_ends(axis: Axes, style: Mapping[str, Look], table: DataFrame, x: str, y: str) -> None:
    """Each arm's marker at the end of its line."""
    for name, rows in table.groupby("arm", sort=False):
        last = rows[rows[x] == rows[x].max()]
        mark(axis, style[str(name)], last[x].iloc[0], last[y].mean())


def legend(figure: Figure, names: Iterable[str], style: Mapping[str, Look], *, line: bool = True) -> None:
    """Markers, with lines where there are lines, below the panels."""
    from matplotlib.lines import Line2D

    handles, names = [], list(dict.fromkeys(names))
    for name in names:
        look = style[name]
        dash: Any = (0, look.dashes) if look.dashes else "-"
        handles.append(
            Line2D([], [], color=look.color, linestyle=dash if line else "none", marker=look.letter, mfc=look.face,
                   label=name)
        )  # fmt: skip
    longest = max(map(len, names), default=0)
    most = max(1, min(6, int(WIDTH / (HANDLE + LETTER * longest))))  # long names of variants need fewer columns
    lines = math.ceil(len(handles) / most)
    figure.set_figheight(figure.get_figheight() + LINE * max(0, lines - ROOM))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=math.ceil(len(handles) / lines) if handles else 1,
        handlelength=3.2 if line else 1.5,
        frameon=False,
    )


def with_runs(found: Sequence[Block]) -> list[str]:
    """The names of the arms that have finished runs."""
    return [arm.name for block in found for arm in block.arms if arm.runs]

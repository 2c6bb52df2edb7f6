"""Figures that look across data sets: average ranks, and who reaches a target soonest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sam_bench.results.arms import Block
from sam_bench.results.figures.plots import CLOCKS, WIDTH, grid, legend, mark
from sam_bench.results.looks import Look, looks
from sam_bench.results.stats import Ranks, performance_profile
from sam_bench.results.tables.table import average_ranks
from sam_bench.results.target import costs_to_target

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RATIOS = np.geomspace(1.0, 10.0, 200)


def rank_diagram(found: Sequence[Block]) -> Figure | None:
    """Average ranks with Nemenyi's critical difference (Demsar 2006); None below three methods or two data sets."""
    ranks = average_ranks(found)
    if ranks is None or len(ranks.names) < 3 or math.isnan(ranks.critical_difference):
        return None
    import matplotlib.pyplot as plt

    k = len(ranks.names)
    levels = math.ceil(k / 2)
    figure, axis = plt.subplots(figsize=(WIDTH, 1.3 + 0.2 * levels))
    axis.set(xlim=(k + 0.2, 0.8), ylim=(-levels - 1.5, 2.8), yticks=[])
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.xaxis.tick_top()
    axis.xaxis.set_label_position("top")
    axis.set_xticks(range(1, k + 1))
    axis.set_xlabel(f"average rank over {ranks.datasets} data sets (1 is best)")
    axis.hlines(1.0, 1, k, color="black", lw=0.8)
    _name_ranks(axis, ranks, looks(found))
    for level, clique in enumerate(ranks.cliques()):
        places = [ranks.average[ranks.names.index(name)] for name in clique]
        axis.hlines(0.65 - 0.3 * level, min(places) - 0.04, max(places) + 0.04, color="black", lw=2.5)
    left = k
    axis.hlines(1.7, left, max(left - ranks.critical_difference, 1), color="black", lw=1)
    axis.text(
        left - ranks.critical_difference / 2, 1.88, f"critical difference {ranks.critical_difference:.2f}", ha="center"
    )
    return figure


def _name_ranks(axis: Axes, ranks: Ranks, style: Mapping[str, Look]) -> None:
    """A line from each method's rank to its name: the better half to the right, the other to the left."""
    order = sorted(range(len(ranks.names)), key=lambda i: ranks.average[i])
    k, half = len(order), math.ceil(len(order) / 2)
    for position, i in enumerate(order):
        best = position < half
        depth = -0.9 - (position if best else k - 1 - position)
        edge = 0.8 if best else k + 0.2
        rank, look = ranks.average[i], style[ranks.names[i]]
        axis.plot([rank, rank, edge], [1.0, depth, depth], color=look.color, lw=1, clip_on=False)
        mark(axis, look, rank, 1.0, clip_on=False, zorder=3)
        text = f" {ranks.names[i]} ({rank:.2f}) "
        axis.text(edge, depth, text, ha="left" if best else "right", va="center", clip_on=False)


def performance_profiles(found: Sequence[Block]) -> Figure | None:
    """Share of problems (data set and seed) solved within a ratio of the best cost (Dolan & More 2002).

    Solved: the valid metric reaches the median of what the base arm's runs reach at their best epochs.
    """
    panels = {clock: costs_to_target(found, clock) for clock in ("grad_evals", "train_seconds")}
    panels = {clock: costs for clock, costs in panels.items() if len(costs) > 1}
    if not panels:
        return None
    style = looks(found)
    figure, axes = grid(1, len(panels), height=2.2, sharey=True)
    for axis, (clock, costs) in zip(axes.flat, panels.items(), strict=True):
        for name, shares in performance_profile(costs, RATIOS).items():
            look = style[name]
            axis.step(RATIOS, shares, where="post", color=look.color, dashes=look.dashes or (None, None))
            mark(axis, look, RATIOS[-1], shares[-1], clip_on=False)
        problems = len(next(iter(costs.values())))
        axis.set(xscale="log", xlabel=f"{CLOCKS[clock]}, ratio to the best", ylim=(-0.02, 1.02), xlim=(1, RATIOS[-1]))
        axis.set(ylabel=f"share of {problems} problems solved", xticks=[1, 2, 5, 10], xticklabels=["1", "2", "5", "10"])
        axis.minorticks_off()
    legend(figure, next(iter(panels.values())), style)
    return figure

"""Figures of what was measured on finished runs: sharpness against gap and test, landscapes, successive gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from sam_bench.results import flatness
from sam_bench.results.arms import Arm, Block
from sam_bench.results.figures.plots import BAND, grid, legend, mark_ends, palette
from sam_bench.results.looks import looks
from sam_bench.results.measured import beside, epoch_means, measured, value
from sam_bench.store.measurements import Landscape, Sharpness

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.contour import QuadContourSet
    from matplotlib.figure import Figure
    from pandas import DataFrame

Panel = tuple[dict[Arm, list[tuple[float, float]]], str]  # the (x, y) of each arm's runs, and the title

AXES = {"largest_eigenvalue": "largest Hessian eigenvalue", "trace": "Hessian trace", "m_sharpness": "m-sharpness"}
LEVELS = 12  # of a landscape
PANELS = 4  # landscapes side by side
WIDE = 4.0  # ratio of the largest to the smallest value from which an axis is logarithmic
PANEL_TITLES = {
    "norm_g": "$\\|g_t\\|$",
    "norm_g_s": "$\\|g^s_t\\|$",
    "norm_direction": "norm of the direction taken",
    "cos_g": "cosine of $g_t$ and $g_{t-1}$",
    "cos_g_after_g_s": "cosine of $g_t$ and $g^s_{t-1}$",
    "cos_direction_g_s": "cosine of the direction and $g^s_t$",
}


def sharpness_against_gap(found: Sequence[Block]) -> Figure | None:
    """Gap of every measured run against three measures of sharpness, with Kendall's rank correlation."""

    def panel(block: Block, chosen: Mapping[Arm, Sequence[Sharpness]], name: str) -> Panel:
        pairs = {arm: [(value(content, name), value(content, "gap_loss")) for content in chosen[arm]]
                 for arm in block.arms if arm in chosen}  # fmt: skip
        known = {arm: [pair for pair in own if all(map(math.isfinite, pair))] for arm, own in pairs.items()}
        return known, _correlation([pair for own in known.values() for pair in own])

    return _sharpness(found, "gap: test minus train loss", panel)


def sharpness_against_test(found: Sequence[Block]) -> Figure | None:
    """Test metric of every measured run, beside the other runs of its seed, against three measures of sharpness."""

    def panel(block: Block, chosen: Mapping[Arm, Sequence[Sharpness]], name: str) -> Panel:
        points, tested = list(flatness.points(block, chosen, name)), dict[tuple[int, int], list[float]]()
        for _, seeds, _, test in points:
            tested.setdefault(seeds, []).append(test)
        pairs: dict[Arm, list[tuple[float, float]]] = {}
        for arm, seeds, sharp, test in points:
            pairs.setdefault(arm, []).append((sharp, test - sum(tested[seeds]) / len(tested[seeds])))
        taus = flatness.taus(block, chosen, name)
        if not taus.size:
            return pairs, "too few runs for $\\tau$"
        return pairs, f"mean $\\tau$ of {taus.size} seeds: {taus.mean():.2f}"

    return _sharpness(found, "test minus its seed's mean", panel)


def _sharpness(found: Sequence[Block], label: str, panel: Callable[..., Panel]) -> Figure | None:
    """A row for each measured block, a panel for each measure; `panel` gives the points of its arms and its title."""
    chosen = measured(found)
    blocks = [block for block in found if any(arm in chosen for arm in block.arms)]
    if not blocks:
        return None
    style = looks(found)
    figure, axes = grid(len(blocks), len(AXES), height=2.2, sharey="row")
    for row, block in zip(axes, blocks, strict=True):
        for axis, (name, text) in zip(row, AXES.items(), strict=True):
            pairs, title = panel(block, chosen, name)
            for arm, own in pairs.items():
                look = style[arm.name]
                if own:
                    axis.plot(*zip(*own, strict=True), look.letter, color=look.color, mfc=look.face, ms=4.5)
            _scale(axis, [x for own in pairs.values() for x, _ in own])
            axis.set(xlabel=text, title=title)
        row[0].set_ylabel(label)
        row[0].set_title(f"{block.title}\n{row[0].get_title()}", loc="center")
    legend(figure, [arm.name for block in blocks for arm in block.arms if arm in chosen], style, line=False)
    return figure


def _correlation(points: Sequence[tuple[float, float]]) -> str:
    from scipy.stats import kendalltau

    if len(points) < flatness.LEAST:
        return f"n = {len(points)}"
    tau = kendalltau(*zip(*points, strict=True)).statistic
    return f"Kendall's $\\tau$ = {tau:.2f}, n = {len(points)}"


def _scale(axis: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis with plain numbers where the values differ by factors, few ticks anywhere."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if not values or min(values) <= 0 or max(values) < WIDE * min(values):
        axis.locator_params(axis="x", nbins=5)
        return
    axis.set_xscale("log")
    decades = max(values) > 100 * min(values)
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0,) if decades else (1.0, 2.0, 5.0)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def loss_landscape(found: Sequence[Block]) -> Figure | None:
    """The loss in a plane through each arm's weights, one run per arm (its first seed), on one scale per block."""
    chosen = []
    for block in found:
        contents = beside(block, "landscape")
        firsts = [(arm, next((contents[r["run_id"]] for r in arm.runs if r["run_id"] in contents), None))
                  for arm in block.arms]  # fmt: skip
        shown = [(arm, content) for arm, content in firsts if content]
        chosen += [(block, shown)] if shown else []
    if not chosen:
        return None
    heights = [math.ceil(len(shown) / PANELS) for _, shown in chosen]
    figure, axes = grid(sum(heights), PANELS, height=1.75, sharex=True, sharey=True)
    for end, height, (block, shown) in zip(accumulate(heights), heights, chosen, strict=True):
        _landscapes(figure, axes[end - height : end], block, shown)
    figure.supxlabel("first direction (1: as long as each filter)", fontsize=8)
    return figure


def _landscapes(figure: Figure, axes: np.ndarray, block: Block, shown: Sequence[tuple[Arm, Landscape]]) -> None:
    """A block's panels, with one colour bar."""
    levels = _levels([content for _, content in shown])
    for axis, (arm, content) in zip(axes.flat, shown, strict=False):
        drawn = _landscape(axis, arm, content, levels)
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
    for row in axes:
        row[0].set_ylabel("second direction")
    axes[0, 0].set_title(f"{block.title}\n{axes[0, 0].get_title()}")
    bar = figure.colorbar(drawn, ax=axes.ravel().tolist(), pad=0.01)
    bar.set_label("training loss")
    bar.set_ticks(levels[::3], labels=[f"{level:.2g}" for level in levels[::3]])
    bar.minorticks_off()


def _levels(contents: Sequence[Landscape]) -> list[float]:
    """Losses at equal ratios from the smallest to the largest."""
    every = [loss for content in contents for line in content["losses"] for loss in line if loss is not None]
    low = max(min(every), 1e-6)
    high = max(max(every), low * 1.01)
    return [low * (high / low) ** (i / LEVELS) for i in range(LEVELS + 1)]


def _landscape(axis: Axes, arm: Arm, content: Landscape, levels: Sequence[float]) -> QuadContourSet:
    import numpy as np
    from matplotlib.colors import LogNorm

    place = content["axis"]
    losses = np.array([[math.nan if loss is None else loss for loss in line] for line in content["losses"]])
    losses = np.clip(losses, levels[0], levels[-1])
    norm = LogNorm(levels[0], levels[-1])
    drawn = axis.contourf(place, place, losses, levels, norm=norm, cmap="cividis")
    axis.contour(place, place, losses, levels, colors="white", linewidths=0.4)
    axis.plot(0, 0, "+", color="white", ms=6)
    axis.set_title(f"{arm.name}, seed {content['labels']['seed']}")
    axis.set_aspect("equal")
    return drawn


def successive_gradients(found: Sequence[Block]) -> Figure | None:
    """Norms and cosines of the gradients of successive steps (as in GraphSAM's figures): means of epochs over runs."""
    import seaborn as sns

    tables = [(block, table) for block in found if len(table := gradient_table(block))]
    if not tables:
        return None
    style = looks(found)
    figure, axes = grid(2 * len(tables), 3, height=1.7)
    for n, (block, table) in enumerate(tables):
        panels = axes[2 * n : 2 * n + 2].flat
        for axis, (name, label) in zip(panels, PANEL_TITLES.items(), strict=True):
            sns.lineplot(
                table.dropna(subset=[name]), x="epoch", y=name, hue="arm", style="arm", **palette(style, table["arm"]),
                errorbar="sd", err_kws=BAND, ax=axis, legend=False,
            )  # fmt: skip
            mark_ends(axis, style, table.dropna(subset=[name]), "epoch", name)
            axis.set(xlabel="epoch", ylabel="", title=label)
            axis.xaxis.get_major_locator().set_params(integer=True)
        axes[2 * n][0].set_ylabel(block.title)
    shown = {name for _, table in tables for name in table["arm"]}
    legend(figure, [name for name in style if name in shown], style)
    return figure


def gradient_table(block: Block) -> DataFrame:
    """One line per run and epoch: the means of its watched steps."""
    import pandas as pd

    runs, contents = [], beside(block, "gradients")
    for arm in block.arms:
        for run in arm.runs:
            if run["run_id"] in contents:
                rows = pd.DataFrame(epoch_means(contents[run["run_id"]]["rows"])).rename_axis("epoch").reset_index()
                runs.append(rows.assign(arm=arm.name, run=run["run_id"]))
    return pd.concat(runs, ignore_index=True) if runs else pd.DataFrame()

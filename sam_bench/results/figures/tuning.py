"""Figures of the studies behind an experiment: what tuning buys, and how much each option matters."""

import math
from collections.abc import Sequence

from sam_bench.results.arms import Block
from sam_bench.results.figures.plots import BAND, grid, legend
from sam_bench.results.looks import Look, looks_of
from sam_bench.results.tables.cells import PERCENT
from sam_bench.results.tuned import tunings
from sam_bench.results.tuning import base_level, curve_of, results_of
from sam_bench.store.studies import Tuning

PANELS = 4  # side by side
EDGE = 1.15  # room beyond the ends of a logarithmic range, so that no mark is cut


def studied(found: Sequence[Block]) -> list[tuple[Block, list[Tuning]]]:
    """The blocks whose arms were tuned, with the arms of the study."""
    return [(block, arms) for block in found if (arms := tunings(block))]


def what_tuning_buys(found: Sequence[Block]):
    """Expected best valid metric against the number of trials, and against their gradient evaluations (Dodge 2019)."""
    chosen = studied(found)
    if not chosen:
        return None
    style = _style(chosen)
    figure, axes = grid(len(chosen), 2, height=2.2, sharey="row")
    for row, (block, arms) in zip(axes, chosen, strict=True):
        scale = _scale(arms[0])
        for arm in arms:
            points, look = curve_of(arm, arms), style[arm.labels["optimizer"]]
            means, stds = ([getattr(point, name) * scale for point in points] for name in ("mean", "std"))
            for axis, name in zip(row, ("k", "grad_evals"), strict=True):
                x = [getattr(point, name) for point in points]
                dashes = {"dashes": look.dashes} if look.dashes else {}
                axis.plot(x, means, color=look.color, marker=look.letter, ms=3, **dashes)
                low, high = ([m + sign * s for m, s in zip(means, stds, strict=True)] for sign in (-1, 1))
                axis.fill_between(x, low, high, color=look.color, **BAND)
        row[0].set(xlabel="tuning trials", ylabel=_axis_name(arms[0], "expected best "))
        row[0].xaxis.get_major_locator().set_params(integer=True)
        row[1].set(xlabel="gradient evaluations of these trials", xlim=(0, None))
        row[0].set_title(block.title, loc="left")
    legend(figure, style, style)
    return figure


def sensitivity(found: Sequence[Block]):
    """Valid metric of every trial against each option of each method; the line is the base arm's best."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import NullFormatter

    panels = [(arms, arm, key) for _, arms in studied(found) for arm in arms for key in arm.space
              if key.startswith("optimizer.")]  # fmt: skip
    if not panels:
        return None
    style = _style(studied(found))
    columns = min(PANELS, len(panels))
    figure, axes = grid(math.ceil(len(panels) / columns), columns, height=1.6)
    for axis, (arms, arm, key) in zip(axes.flat, panels, strict=False):
        scale, look, rule = _scale(arm), style[arm.labels["optimizer"]], arm.space[key]
        x, values = [trial.values[key] for trial in arm.trials], [v * scale for v in results_of(arm, arms)]
        if "choices" in rule:
            x = [rule["choices"].index(value) for value in x]
            axis.set(xticks=range(len(rule["choices"])), xticklabels=[str(choice) for choice in rule["choices"]])
        elif rule.get("log"):
            axis.set_xscale("log")
            axis.xaxis.set_minor_formatter(NullFormatter())  # within a decade its labels would overlap
            axis.set_xlim(rule["low"] / EDGE, rule["high"] * EDGE)
        axis.plot(x, values, look.letter, color=look.color, ms=3.5)
        axis.axhline(base_level(arms) * scale, color="0.4", lw=0.8, ls="--")
        axis.set(xlabel=key.removeprefix("optimizer."), ylabel=_axis_name(arm, ""))
        axis.set_title(arm.labels["optimizer"])
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    trial = Line2D([], [], linestyle="none", marker="o", ms=3.5, mfc="none", mec="0.4", label="one trial")
    base = Line2D([], [], color="0.4", lw=0.8, ls="--", label="best trial of the base optimizer alone")
    figure.legend(handles=[trial, base], loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(", ".join(block.title for block in found))  # a long name has no room above a panel
    return figure


def _style(chosen: Sequence[tuple[Block, Sequence[Tuning]]]) -> dict[str, Look]:
    return looks_of(list(dict.fromkeys(arm.labels["optimizer"] for _, arms in chosen for arm in arms)))


def _scale(arm: Tuning) -> float:
    return 100.0 if arm.metric in PERCENT else 1.0


def _axis_name(arm: Tuning, before: str) -> str:
    arrow = "higher" if arm.higher_is_better else "lower"
    return f"{before}valid/{arm.metric}{' (%)' if arm.metric in PERCENT else ''}\n({arrow} is better)"

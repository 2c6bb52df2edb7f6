"""Figures of an experiment, for print."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_bench.api import Record
from sam_bench.results.arms import Block, blocks
from sam_bench.results.figures import across, measured, plots, rows, tuning
from sam_bench.store.disk import advice, atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES: dict[str, Callable[[Sequence[Block]], Figure | None]] = {
    "learning_curves": plots.learning_curves,
    "metric_against_cost": plots.metric_against_cost,
    "sampled_share": plots.sampled_share,
    "metric_by_dataset": rows.metric_by_dataset,
    "ranks": across.rank_diagram,
    "time_to_target": rows.time_to_target,
    "three_budgets": rows.three_budgets,
    "performance_profile": across.performance_profiles,
    "sharpness_against_gap": measured.sharpness_against_gap,
    "sharpness_against_test": measured.sharpness_against_test,
    "loss_landscape": measured.loss_landscape,
    "successive_gradients": measured.successive_gradients,
    "what_tuning_buys": tuning.what_tuning_buys,
    "sensitivity": tuning.sensitivity,
}
APART = {"sensitivity"}  # one figure for each table: it has a panel for each option of each method
STYLE = {
    "font.size": 8, "axes.labelsize": 8, "axes.titlesize": 8, "legend.fontsize": 7, "xtick.labelsize": 7,
    "ytick.labelsize": 7, "lines.linewidth": 1.2, "lines.markersize": 4, "figure.constrained_layout.use": True,
    "savefig.dpi": 200, "pdf.fonttype": 42, "svg.hashsalt": "sam_bench", "axes.spines.top": False,
    "axes.spines.right": False,
}  # fmt: skip


def draw(records: Sequence[Record], out_dir: Path, *, name: str, formats: Sequence[str] = ("pdf", "png")) -> list[Path]:
    """Draw every figure these records allow as `<name>_<figure>.pdf` and `.png`; returns the files written.

    A figure that is APART has the data set behind its name if there are several tables. Same records and library
    versions, same bytes. Raises UsageError where the folder cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import seaborn as sns

    out_dir = Path(out_dir)
    with advice(out_dir):
        out_dir.mkdir(parents=True, exist_ok=True)
    found = [block for block in blocks(records) if any(arm.runs for arm in block.arms)]
    written = []
    style: dict[Any, Any] = {**sns.axes_style("ticks"), **STYLE}
    with mpl.rc_context(style):
        for figure_name, plot in FIGURES.items():
            for suffix, shown in _parts(found) if figure_name in APART else [("", found)]:
                figure = plot(shown) if shown else None
                if figure is not None:
                    _mark(figure, shown)
                    written += _save(figure, out_dir / f"{name}_{figure_name}{suffix}", formats)
    return written


def _parts(found: Sequence[Block]) -> list[tuple[str, Sequence[Block]]]:
    """Each table alone, with what tells its file from the others': the data set, or all of the title."""
    if len(found) < 2:
        return [("", found)]
    by_dataset = len({block.dataset for block in found}) == len(found)
    return [(f"_{block.dataset if by_dataset else block.title.replace(' / ', '-')}", [block]) for block in found]


def _mark(figure: Figure, found: Sequence[Block]) -> None:
    """A line above figures of unverified data or tuned options: a figure leaves the table and its notes behind."""
    if doubtful := sorted({block.dataset for block in found if block.unverified}):
        _above(figure, f"unverified data: {', '.join(doubtful)}", "firebrick")
        return
    origins = {arm.origin for block in found for arm in block.arms}
    if origins != {"defaults"}:
        _above(figure, f"options: {', '.join(sorted(origins))}", "0.4")


def _above(figure: Figure, text: str, color: str) -> None:
    """Add to what stands above the panels."""
    figure.suptitle("; ".join(filter(None, [figure.get_suptitle(), text])), fontsize=7, color=color)


# What leaves dates and versions out, so that the same figure is the same bytes.
PLAIN: dict[str, dict[str, None]] = {"pdf": {"CreationDate": None, "ModDate": None}, "png": {"Software": None}}


def _save(figure: Figure, stem: Path, formats: Sequence[str]) -> list[Path]:
    import matplotlib.pyplot as plt

    written = []
    figure.draw_without_rendering()  # the second layout differs from the first: no kind of file gets the first
    for kind in formats:
        drawn = io.BytesIO()
        figure.savefig(drawn, format=kind, metadata=PLAIN[kind])
        path = stem.with_name(f"{stem.name}.{kind}")
        atomic_write(path, drawn.getvalue())
        written.append(path)
    plt.close(figure)
    return written

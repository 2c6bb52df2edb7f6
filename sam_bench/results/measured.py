"""The sharpness of an experiment's runs, as a table."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, overload

from sam_bench.results.arms import Arm, Block
from sam_bench.results.stats import Summary, summary
from sam_bench.results.tables.render import Cell, Section
from sam_bench.store import added
from sam_bench.store.measurements import Gradients, Landscape, Measurement, Sharpness

# Column of the csv -> (header, path within an added record).
COLUMNS = {
    "largest_eigenvalue": ("largest eigenvalue (n)", ("largest_eigenvalue", "value")),
    "trace": ("trace", ("trace", "mean")),
    "m_sharpness": ("m-sharpness", ("m_sharpness", "mean")),
    "ball_rise": ("rise in the ball", ("ball", "mean")),
    "gap_loss": ("gap, loss", ("gap", "loss")),
    "gap_metric": ("gap, metric", ("gap", "metric")),
}
TRACES = ("norm_g", "norm_g_s", "norm_direction", "cos_g", "cos_g_s", "cos_g_after_g_s", "cos_direction_g_s")
# What may not have converged.
DOUBTS: tuple[Literal["largest_eigenvalue", "trace"], ...] = ("largest_eigenvalue", "trace")


def measured(found: Sequence[Block]) -> dict[Arm, list[Sharpness]]:
    """The sharpness of each arm's runs, those that were measured; within a block all with the same settings."""
    chosen = {}
    for block in found:
        contents = beside(block, "sharpness")
        for arm in block.arms:
            chosen[arm] = [contents[run["run_id"]] for run in arm.runs if run["run_id"] in contents]
    return {arm: values for arm, values in chosen.items() if values}


@overload
def beside(block: Block, kind: Literal["sharpness"]) -> dict[str, Sharpness]: ...
@overload
def beside(block: Block, kind: Literal["landscape"]) -> dict[str, Landscape]: ...
@overload
def beside(block: Block, kind: Literal["gradients"]) -> dict[str, Gradients]: ...
def beside(block: Block, kind: added.Kind) -> Mapping[str, Measurement]:
    """The added records of a kind of the runs of a block, {run_id: content}."""
    return added.load([run for arm in block.arms for run in arm.runs], kind)


def value(content: Sharpness, column: str) -> float:
    """One of COLUMNS of an added record; NaN where it could not be measured."""
    inner: object = content
    for key in COLUMNS[column][1]:
        inner = inner.get(key) if isinstance(inner, Mapping) else None
    return float(inner) if isinstance(inner, int | float) else math.nan


def epoch_means(rows: Mapping[str, Sequence[float | None]]) -> dict[str, dict[int, float]]:
    """{trace: {epoch: mean over its watched steps}} of successive gradients, epochs counted from 1."""
    found: dict[str, dict[int, list[float]]] = {}
    for name in (name for name in TRACES if name in rows):
        for epoch, number in zip(rows["epoch"], rows[name], strict=True):
            if number is not None and epoch is not None:
                found.setdefault(name, {}).setdefault(math.floor(epoch) + 1, []).append(number)
    return {name: {epoch: sum(row) / len(row) for epoch, row in values.items()} for name, values in found.items()}


def column(contents: Sequence[Sharpness], name: str) -> Summary:
    """A column over the runs of an arm."""
    return summary([value(content, name) for content in contents])


def section(block: Block, chosen: Mapping[Arm, Sequence[Sharpness]]) -> Section | None:
    """The printed table of a block; None where none of its runs was measured."""
    arms = [arm for arm in block.arms if arm in chosen]
    if not arms:
        return None
    rows = []
    for arm in arms:
        cells = [_cell(chosen[arm], name) for name in COLUMNS]
        rows.append([Cell(arm.name), *cells])
    header = ["optimizer", *(name for name, _ in COLUMNS.values())]
    notes = list(dict.fromkeys(_explain(content) for arm in arms for content in chosen[arm]))
    notes.append("gap: test minus train at the best epoch, larger where the test split fares worse.")
    if any(cell.text.endswith("?") for row in rows for cell in row):
        notes.append("?: in a run at least it did not converge to the tolerance that its record states.")
    return Section(f"sharpness of {block.title}", header, rows, notes)


def _cell(contents: Sequence[Sharpness], name: str) -> Cell:
    found = column(contents, name)
    known = [abs(size) for size in (found.mean, found.std) if math.isfinite(size)]
    form = _format(max(known, default=0.0))
    text = form(found.mean) + (f" ± {form(found.std)}" if found.n > 1 else "")
    text += f" ({found.n})" if name == "largest_eigenvalue" else ""
    doubt = name in DOUBTS and not all(_converged(content)[name] for content in contents)
    return Cell(text + (" ?" if doubt else ""), value=found.mean)


def _converged(content: Sharpness) -> dict[str, bool]:
    return {name: content[name]["converged"] for name in DOUBTS}


def _format(size: float) -> Callable[[float], str]:
    """Numbers with three significant digits of `size`, with an exponent where zeros would fill the line."""
    if size == 0 or 1e-4 <= size < 1e5:
        digits = max(0, 2 - math.floor(math.log10(size))) if size else 0
        return lambda number: f"{number:z.{digits}f}" if math.isfinite(number) else "n/a"
    return lambda number: f"{number:.2e}" if math.isfinite(number) else "n/a"


def _explain(content: Sharpness) -> str:
    subset, settings = content["subset"], content["settings"]
    steps = settings["ascent_steps"]
    return (
        f"Hessian and rises are those of the training loss on {subset['n']} of {subset['of']} {subset['split']} "
        f"samples (no augmentation, {content['mode']} mode, {content['dtype']}); m = {settings['m']}, "
        f"rho = {settings['rho']:g}, {steps} ascent step{'s' if steps > 1 else ''}; "
        f"{settings['probes']} probes, {settings['directions']} pairs in the ball."
    )

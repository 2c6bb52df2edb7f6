"""Results tables: what each optimizer reached, what it gained over the base arm, and what it cost."""

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from sam_bench.api import Record
from sam_bench.errors import UsageError, did_you_mean
from sam_bench.results import flatness, measured, pooled, tuning
from sam_bench.results.arms import COSTS, Arm, Block, blocks
from sam_bench.results.data_notes import of_data
from sam_bench.results.fairness import disturbed, mixed_arithmetic, mixed_code
from sam_bench.results.stats import (
    ENOUGH_SEEDS,
    Ranks,
    interquartile_mean,
    minimum_detectable_difference,
    pairs_needed,
    ranks,
)
from sam_bench.results.tables.cells import difference_cell, number, score_cell, test_cell, unit, valid_cell
from sam_bench.results.tables.render import RENDERERS, Cell, Section, spreadsheet_cell
from sam_bench.results.tuned import origins, tunings
from sam_bench.results.verify import unfair
from sam_bench.store.measurements import Sharpness

FORMATS = (*RENDERERS, "csv")
MARKS = {
    "†": "short run (train.max_steps): not a result of the experiment",
    "‡": "data that could not be verified: not a result on the published data set",
    "§": "not a fair comparison: data, split, budget, schedule or tuning differ from erm's (see sam-bench verify)",
    "¶": "made from another commit than erm's, or from changed code",
    "≠": "computed in another precision than erm's or compiled where erm was not, or mixed (see sam-bench verify)",
    "~": "timings that cannot be compared: other hardware, or other work on the machine (see sam-bench verify)",
    "✗": "failed runs, with their number; they are not in the mean",
}


def table(records: Sequence[Record], *, format: str = "terminal") -> str:
    """The results table of these records, in their order: terminal, markdown, latex, html or csv (raw numbers).

    Same records, same bytes. Raises UsageError for a format that does not exist.
    """
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}. {did_you_mean(format, FORMATS)}")
    found = blocks(records)
    return _csv(found) if format == "csv" else RENDERERS[format](sections(found))


def sections(found: Sequence[Block]) -> list[Section]:
    """The printed table's parts: overview and pooled test of several blocks, each block, its sharpness, its tuning."""
    testable = [arm for block in found for arm in block.arms if arm.versus and not arm.versus.too_few]
    overview = [_overview(found, len(testable))] if len(found) > 1 else []
    overview += [together] if (together := pooled.section(found)) else []
    chosen = measured.measured(found)
    added = [section for block in found if (section := measured.section(block, chosen))]
    added += flatness.sections(found, chosen)
    added += [tuning.section(arms) for block in found if (arms := tunings(block))]
    return [*overview, *(_section(block, len(testable)) for block in found), *added]


def _section(block: Block, family: int) -> Section:
    scale, digits, name = unit(block)
    better = "higher" if block.metric["higher_is_better"] else "lower"
    notes = _Notes()
    cited = any(arm.published for arm in block.arms)
    rows = []
    for arm in block.arms:
        row = [Cell(arm.name), score_cell(arm, scale, digits), valid_cell(arm, scale, digits)]
        row += [difference_cell(arm.versus, scale, digits), test_cell(arm.versus), *_cost_cells(arm)]
        rows.append(row + ([Cell(notes.cite(arm, scale, digits))] if cited else []))
    valid = name.replace("test/", "valid/")
    header = ["optimizer", f"{name} (n)", valid, "difference to erm [95 %]", "p (Holm)", "speed / erm"]
    header += ["grad_evals / step", "sam_fraction", "train_seconds", "peak MiB", *(["published"] if cited else [])]
    lines = [f"{name}: mean ± sample standard deviation (n seeds), {better} is better; {valid} chose the epoch."]
    lines.append(origins(block.arms))
    lines += [] if cited else ["Published values for this data set, model and method: not available."]
    lines += _power(block.arms, family, scale, digits)
    lines += [*_explain(block.arms, family), *of_data(block.arms), *notes.lines]
    return Section(block.title, header, rows, lines)


def _power(arms: Sequence[Arm], family: int, scale: float, digits: int) -> list[str]:
    """What n could have found, where the corrected test of this table can find anything at all."""
    enough = max(ENOUGH_SEEDS, pairs_needed(family))
    known = [arm.versus for arm in arms if arm.versus and arm.versus.n >= enough]
    found = [minimum_detectable_difference(versus.std, versus.n) for versus in known]
    if not any(math.isfinite(value) for value in found):
        return []
    least = number(max(value for value in found if math.isfinite(value)) * scale, digits)
    return [
        f"A paired t-test without correction would find a true difference of {least} with 80 % power in the noisiest "
        "of these comparisons."
    ]


def _cost_cells(arm: Arm) -> list[Cell]:
    speed = 1.0 if arm.base is None and arm.labels["optimizer"] == "erm" else arm.relative_throughput
    values = [(speed, 2), (arm.cost("grad_evals_per_step"), 2), (arm.cost("sam_fraction"), 2)]
    values += [(arm.cost("train_seconds"), 1), (arm.cost("peak_memory_bytes") / 2**20, 0)]
    cells = [Cell(number(value, digits), value=value) for value, digits in values]
    if disturbed(arm):
        cells[0] = Cell(f"{cells[0].text}~", value=speed)
    return cells


class _Notes:
    """Numbered sources of published values."""

    LIMIT = 3

    def __init__(self) -> None:
        self.lines: list[str] = []

    def cite(self, arm: Arm, scale: float, digits: int) -> str:
        """`value ± spread [1]` for each of an arm's published values."""
        if not arm.published:
            return "not available"
        cited = []
        for value in arm.published[: self.LIMIT]:
            spread = "" if value.spread is None else f" ± {number(value.spread * scale, digits)}"
            self.lines.append(f"[{len(self.lines) + 1}] {value.source} (± {value.kind}); its protocol, not ours.")
            cited.append(f"{number(value.value * scale, digits)}{spread} [{len(self.lines)}]")
        more = len(arm.published) - self.LIMIT
        return ", ".join(cited) + (f", {more} more" if more > 0 else "")


def _explain(arms: Sequence[Arm], family: int) -> list[str]:
    """What the marks mean that really stand in the table, and what n can show among `family` comparisons."""
    compared = [arm.versus for arm in arms if arm.versus]
    lines = []
    if any(versus.significant for versus in compared):
        lines.append(
            "* differs from erm: exact sign-flip test paired by seed, p < 0.05 after Holm over the whole table;"
        )
        lines[-1] += " bold where it is better."
    if any(versus.too_few for versus in compared):
        lines.append(
            f"too few seeds: below {ENOUGH_SEEDS} pairs no difference, however large, reaches p < 0.05, and no"
        )
        lines[-1] += " interval is given."
    needed = pairs_needed(family)
    if any(ENOUGH_SEEDS <= versus.n < needed for versus in compared):
        lines.append(
            f"{family} comparisons in this table: below {needed} pairs no difference reaches p < 0.05 after Holm."
        )
    used = {"†": any(a.short for a in arms), "‡": any(a.unverified for a in arms)}
    used |= {"§": any(unfair(a) for a in arms), "¶": any(mixed_code(a) for a in arms)}
    used |= {"≠": any(mixed_arithmetic(a) for a in arms), "~": any(disturbed(a) for a in arms)}
    used |= {"✗": any(a.failed for a in arms)}
    return lines + [f"{mark} {MARKS[mark]}." for mark, present in used.items() if present]


def _overview(found: Sequence[Block], family: int) -> Section:
    """One row per optimizer, one column per block, and the average rank."""
    names = list(dict.fromkeys(arm.name for block in found for arm in block.arms))
    units = [unit(block) for block in found]
    rows = []
    for name in names:
        row = [Cell(name)]
        for block, (scale, digits, _) in zip(found, units, strict=True):
            arm = _named(block, name)
            row.append(score_cell(arm, scale, digits) if arm else Cell("-"))
        rows.append(row)
    middles = {name: interquartile_mean(_gains(found, name)) for name in names}
    placed = average_ranks(found)
    header = ["optimizer", *(f"{block.title}: {unit[2]}" for block, unit in zip(found, units, strict=True))]
    notes = _explain([arm for block in found for arm in block.arms], family)
    if any(math.isfinite(value) for value in middles.values()):
        header.append("gain over erm (%)")
        for row in rows:
            row.append(Cell(number(middles[row[0].text], 2), value=middles[row[0].text]))
        notes.append("gain over erm: interquartile mean over columns and seeds of the gain relative to erm's value.")
    if placed is not None:
        header.append("average rank")
        for row in rows:
            rank = dict(zip(placed.names, placed.average, strict=True)).get(row[0].text, math.nan)
            row.append(Cell(number(rank, 2), value=rank))
        chance, apart = number(placed.friedman_p, 3), number(placed.critical_difference, 2)
        text = f"average rank over {placed.datasets} complete columns (1 is best): Friedman p = {chance}, "
        notes.append(f"{text}critical difference {apart} (Nemenyi, 0.05).")
    return Section("overview", header, rows, notes)


def _gains(found: Sequence[Block], name: str) -> list[float]:
    """Relative gains (%) of an arm over its base arm, one per block and common seed; positive is better."""
    gains = []
    for block in found:
        arm = _named(block, name)
        if arm is None or arm.base is None:
            continue
        sign = 100.0 if block.metric["higher_is_better"] else -100.0
        ours, theirs = arm.scores, arm.base.scores
        common = [seed for seed in sorted(ours.keys() & theirs.keys()) if theirs[seed]]
        gains += [sign * (ours[seed] - theirs[seed]) / abs(theirs[seed]) for seed in common]
    return gains


def average_ranks(found: Sequence[Block]) -> Ranks | None:
    """Ranks of the arms that every block has, by their mean test metric; None below two arms or two blocks."""
    names = [arm.name for arm in found[0].arms if arm.runs] if found else []
    names = [name for name in names if all((arm := _named(block, name)) and arm.runs for block in found)]
    if len(names) < 2 or len(found) < 2:
        return None
    scores = {name: [arm.score.mean for block in found if (arm := _named(block, name))] for name in names}
    return ranks(scores, [block.metric["higher_is_better"] for block in found])


def _named(block: Block, name: str) -> Arm | None:
    return next((arm for arm in block.arms if arm.name == name), None)


def _csv(found: Sequence[Block]) -> str:
    """One line per arm, numbers as they are."""
    text = io.StringIO()
    chosen = measured.measured(found)
    rows = [_raw(block, arm, chosen.get(arm, ())) for block in found for arm in block.arms]
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["optimizer"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _raw(block: Block, arm: Arm, contents: Sequence[Sharpness]) -> dict[str, Any]:
    versus, first = arm.versus, next(iter(arm.published), None)
    row: dict[str, Any] = {
        "dataset": block.dataset,
        "model": block.model,
        "base": block.base,
        "optimizer": arm.labels["optimizer"],
    }
    row |= {"variant": arm.variant, "metric": f"test/{arm.metric['name']}"}
    row |= {"higher_is_better": arm.metric["higher_is_better"], "n": arm.score.n, "mean": arm.score.mean}
    row |= {"std": arm.score.std, "valid_mean": arm.valid.mean, "valid_std": arm.valid.std}
    row |= {"failed": len(arm.failed), "compared_to": arm.base.name if arm.base else ""}
    for name in ("mean", "std", "n", "low", "high", "p", "p_holm", "significant", "better", "too_few"):
        row[f"difference_{name}"] = getattr(versus, name) if versus else ""
    row["minimum_detectable_difference"] = minimum_detectable_difference(versus.std, versus.n) if versus else ""
    row |= {"relative_throughput": arm.relative_throughput, "timings_disturbed": disturbed(arm)}
    row |= {name: arm.cost(name) for name in COSTS}
    row |= {"mixed_code": mixed_code(arm), "mixed_arithmetic": mixed_arithmetic(arm)}
    row["unfair"] = "; ".join(f"{check}: {message}" for check, message in unfair(arm))
    tuned = arm.tuned or {"study": "", "trials": 0, "hash": ""}
    row |= {f"tuning_{name}": tuned[name] for name in ("study", "trials", "hash")}
    row |= {"short": arm.short, "verified": not arm.unverified, "seeds": " ".join(str(s) for s, _ in arm.scores)}
    row |= {"published": first.value if first else "", "published_spread": first.spread if first else ""}
    row["published_source"] = first.source if first else ""
    row |= {name: measured.column(contents, name).mean for name in measured.COLUMNS}
    row["sharpness_n"] = len(contents)
    return {key: _csv_value(value) for key, value in row.items()}


def _csv_value(value):
    if isinstance(value, str):
        return spreadsheet_cell(value)
    return "" if isinstance(value, float) and math.isnan(value) else value

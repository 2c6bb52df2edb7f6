"""The same methods under three budgets, side by side: equal epochs, equal gradient evaluations, equal seconds."""

import statistics
from collections.abc import Mapping, Sequence

from sam_bench.api import Record
from sam_bench.results.arms import Arm, Block, blocks
from sam_bench.results.data_notes import of_data
from sam_bench.results.tables.cells import difference_cell, number, score_cell, test_cell, unit
from sam_bench.results.tables.render import Cell, Section
from sam_bench.results.tuned import origins

BUDGETS = {"epochs": "equal epochs", "grad_evals": "equal gradient evaluations", "seconds": "equal seconds"}
SPENT = {"epochs": "epochs", "grad_evals": "grad_evals", "seconds": "train_seconds"}  # column of a record
REFERENCE = "sam"  # whose equal-epochs runs say how many seconds everybody gets
SAM_PASSES = 2  # gradient evaluations of a step of REFERENCE
DIGITS = 3  # significant ones of these seconds


def budget_of(record: Mapping) -> str:
    """`epochs`, `grad_evals` or `seconds`."""
    return str(record["config"]["train"].get("budget", "epochs"))


def place_of(labels: Mapping) -> tuple:
    """(dataset, model, base)."""
    return tuple(labels[key] for key in ("dataset", "model", "base"))


def calibrated(records: Sequence[Record]) -> dict[tuple, float]:
    """Training seconds for each (dataset, model, base): the median of SAM's runs under equal epochs.

    Without SAM, of the runs of the slowest method. The records never change, so neither does the answer.
    """
    found: dict[tuple, float] = {}
    for block in blocks([r for r in records if budget_of(r) == "epochs" and r["status"] == "finished"]):
        seconds = {arm: statistics.median(run["train_seconds"] for run in arm.runs) for arm in block.arms if arm.runs}
        own = [arm for arm in seconds if arm.labels["optimizer"] == REFERENCE]
        if seconds:
            slowest = own[0] if own else max(seconds, key=lambda arm: seconds[arm])
            found[block.dataset, block.model, block.base] = float(f"{seconds[slowest]:.{DIGITS}g}")
    return found


def sections(records: Sequence[Record]) -> list[Section]:
    """One table per data set, model and base: metric and difference to erm under each budget that has records."""
    return [section(parts) for parts in by_place(records)]


def beside(records: Sequence[Record]) -> list[dict[str, Block]]:
    """Those of `by_place` that have records under more than one budget: only these can be compared."""
    return [parts for parts in by_place(records) if len(parts) > 1]


def by_place(records: Sequence[Record]) -> list[dict[str, Block]]:
    """{budget: block} for each data set, model and base: the budgets that have records, in the order of BUDGETS."""
    found: dict[tuple, dict[str, Block]] = {}
    for budget in BUDGETS:
        under = [r for r in records if budget_of(r) == budget]
        for block in blocks(under + _same_under(budget, under, records)):
            found.setdefault((block.dataset, block.model, block.base), {})[budget] = block
    return list(found.values())


def _same_under(budget: str, under: Sequence[Record], records: Sequence[Record]) -> list[Record]:
    """Runs of equal epochs that are also the runs under equal gradient evaluations, and need not be made again.

    SAM's two passes a step are the unit of that budget: such a run takes the same steps, with the same learning rates.
    They count where `under` has runs of other methods, and none of theirs.
    """
    if budget != "grad_evals":
        return []
    places = {place_of(r["labels"]) for r in under}
    made = {(*place_of(r["labels"]), r["labels"]["optimizer"]) for r in under}
    same = [
        r for r in records
        if budget_of(r) == "epochs" and r["status"] == "finished" and r["grad_evals"] == SAM_PASSES * r["steps"]
        and place_of(r["labels"]) in places and (*place_of(r["labels"]), r["labels"]["optimizer"]) not in made
    ]  # fmt: skip
    return [{**r, "config": {**r["config"], "train": {**r["config"]["train"], "budget": budget}}} for r in same]


def names(parts: Mapping[str, Block]) -> list[str]:
    """The arms of all budgets."""
    return list(dict.fromkeys(arm.name for block in parts.values() for arm in block.arms))


def section(known: Mapping[str, Block]) -> Section:
    """One of `by_place` as a table."""
    first = next(iter(known.values()))
    scale, digits, name = unit(first)
    header = ["optimizer", *(text for budget in known for text in _header(budget, name))]
    rows = []
    for wanted in names(known):
        row = [Cell(wanted)]
        for budget, block in known.items():
            arm = next((arm for arm in block.arms if arm.name == wanted), None)
            row += _cells(arm, budget, scale, digits)
        rows.append(row)
    better = "higher" if first.metric["higher_is_better"] else "lower"
    notes = [f"{name}: mean ± sample standard deviation (n seeds), {better} is better.", origins(first.arms)]
    notes += [_explain(budget, block) for budget, block in known.items()]
    notes.append(
        "p: exact sign-flip test paired by seed, Holm over all comparisons of this command under the same budget. "
        "* p < 0.05; bold where the method is better."
    )
    notes += of_data([arm for block in known.values() for arm in block.arms])
    return Section(f"{'three ' if len(known) == len(BUDGETS) else ''}budgets: {first.title}", header, rows, notes)


def _header(budget: str, name: str) -> list[str]:
    return [f"{BUDGETS[budget]}: {name} (n)", "difference to erm [95 %]", "p (Holm)", f"{SPENT[budget]} spent"]


def _cells(arm: Arm | None, budget: str, scale: float, digits: int) -> list[Cell]:
    if arm is None or not arm.runs:
        return [Cell("-")] * 4
    spent = arm.cost(SPENT[budget])
    return [score_cell(arm, scale, digits), difference_cell(arm.versus, scale, digits), test_cell(arm.versus),
            Cell(number(spent, 1 if budget == "seconds" else 0), value=spent)]  # fmt: skip


def _explain(budget: str, block: Block) -> str:
    train = next(arm for arm in block.arms if arm.runs or arm.failed).options
    if budget == "epochs":
        return f"equal epochs: {train['train.epochs']} for every method, as in the papers."
    if budget == "grad_evals":
        return (
            f"equal gradient evaluations: what SAM spends in {train['train.epochs']} epochs; a method of one "
            "evaluation a step trains twice as long, and its learning-rate schedule stretches with it. Runs of equal "
            "epochs with two evaluations in every step are the same runs, and count here."
        )
    return (
        f"equal seconds: {train['train.seconds']:g} of training, the median of SAM's runs under equal epochs; they "
        "depend on the machine and on what else ran there."
    )

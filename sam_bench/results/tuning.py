"""What tuning buys: the expected best of k trials, and what they cost, out of the trials of a study."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sam_bench.results.arms import BASE_ARM
from sam_bench.results.tables.render import Cell, Section, terminal
from sam_bench.store.studies import Trial, Tuning


@dataclass(frozen=True)
class Expected:
    """The best of k trials: its expectation and standard deviation, and the gradient evaluations that k trials take."""

    k: int
    mean: float
    std: float
    grad_evals: float


def expected_best(values: Sequence[float], k: int, higher_is_better: bool) -> tuple[float, float]:
    """Mean and standard deviation of the best of k draws from these values, with replacement.

    Dodge et al., "Show Your Work" (EMNLP 2019, section 3): the draws come from the empirical distribution of the
    trials, so P(best <= v) = P(value <= v)^k. For k near the number of trials it is biased towards the mean (Tang et
    al., ACL 2020): the best of n trials is better than its expectation at k = n.
    """
    n = len(values)
    ordered = sorted(values, reverse=not higher_is_better)  # the worst first
    chances = [((place + 1) / n) ** k - (place / n) ** k for place in range(n)]
    mean = sum(chance * value for chance, value in zip(chances, ordered, strict=True))
    variance = sum(chance * (value - mean) ** 2 for chance, value in zip(chances, ordered, strict=True))
    return mean, math.sqrt(variance)


def results_of(arm: Tuning, arms: Sequence[Tuning]) -> list[float]:
    """The mean valid metric of each trial; one that diverged counts as the worst value that any of `arms` reached."""
    known = [trial.value for other in arms for trial in other.trials if not math.isnan(trial.value)]
    worst = (min if arm.higher_is_better else max)(known, default=math.nan)
    return [worst if math.isnan(trial.value) else trial.value for trial in arm.trials]


def curve_of(arm: Tuning, arms: Sequence[Tuning]) -> list[Expected]:
    """The expected best of 1, 2, ... all trials of an arm, and the gradient evaluations of so many average trials."""
    values, n = results_of(arm, arms), len(arm.trials)
    each = sum(trial.grad_evals for trial in arm.trials) / n
    return [Expected(k, *expected_best(values, k, arm.higher_is_better), k * each) for k in range(1, n + 1)]


def base_level(arms: Sequence[Tuning]) -> float:
    """What the tuned base arm reaches on the valid split; NaN without one."""
    base = next((arm for arm in arms if arm.labels["optimizer"] == BASE_ARM), None)
    return math.nan if base is None or base.winner is None else base.winner.value


def study_text(arms: Sequence[Tuning]) -> str:
    """The tables of a whole study, for a terminal."""
    blocks: dict[tuple[str, ...], list[Tuning]] = {}
    for arm in arms:
        blocks.setdefault(tuple(arm.labels[key] for key in ("dataset", "model", "base")), []).append(arm)
    return terminal([section(found) for found in blocks.values()])


def section(arms: Sequence[Tuning]) -> Section:
    """The printed table of the arms of one block: winners, what fewer trials would have bought, and what they cost."""
    first, most = arms[0], max(len(arm.trials) for arm in arms)
    steps = [k for k in (2**power for power in range(12)) if k < most] + [most]
    header = ["optimizer", "trials", f"best valid/{first.metric}", *(f"expected best of {k}" for k in steps)]
    rows = []
    for arm in arms:
        winner, curve = arm.winner, {point.k: point for point in curve_of(arm, arms)}
        cells = [Cell(arm.labels["optimizer"]), Cell(str(len(arm.trials)), value=len(arm.trials)), _best(winner)]
        cells += [_expected(curve.get(k)) for k in steps]
        spent = sum(trial.grad_evals for trial in arm.trials)
        rows.append([*cells, Cell(str(spent), value=spent), Cell(_values(winner))])
    title = f"tuning of {first.labels['dataset']} / {first.labels['model']} / {first.labels['base']}"
    return Section(title, [*header, "grad_evals of all trials", "values of the best"], rows, _notes(arms))


def _best(winner: Trial | None) -> Cell:
    if winner is None:
        return Cell("all diverged")
    return Cell(f"{winner.value:.4g} ({len(winner.scores)})", value=winner.value)


def _expected(point: Expected | None) -> Cell:
    return Cell("-") if point is None else Cell(f"{point.mean:.4g} ± {point.std:.2g}", value=point.mean)


def _values(winner: Trial | None) -> str:
    if winner is None:
        return "-"
    return ", ".join(f"{key.removeprefix('optimizer.')}={value}" for key, value in winner.values.items())


def _notes(arms: Sequence[Tuning]) -> list[str]:
    first = arms[0]
    better = "higher" if first.higher_is_better else "lower"
    seeds = ", ".join(map(str, first.seeds))
    counts = {arm.labels["optimizer"]: len(arm.trials) for arm in arms}
    lines = [
        f"best: valid metric of the best trial, {better} is better; mean over the tuning seeds (how many; they are "
        f"{seeds}), each at its best epoch.",
        f"study {first.study}: {first.sampler}{', pruned' if first.pruned else ''}; no trial read the test part of its "
        "own split.",
        "expected best of k: mean ± std of the best of k trials, drawn with replacement (Dodge et al. 2019).",
    ]
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        lines.append(f"NOT THE SAME NUMBER OF TRIALS: {listed}.")
    if diverged := _count(arms, lambda trial: math.isnan(trial.value)):
        lines.append(f"diverged trials count as the worst value of all: {diverged}.")
    if first.pruned:
        lines.append(f"pruned trials count with the seeds that they had: {_count(arms, _pruned(first)) or 'none'}.")
    if edges := [f"{arm.labels['optimizer']} {key}" for arm in arms for key in arm.edges]:
        lines.append(f"at the end of its range, which should be widened: {', '.join(edges)}.")
    return lines


def _pruned(arm: Tuning) -> Callable[[Trial], bool]:
    return lambda trial: len(trial.scores) < len(arm.seeds)


def _count(arms: Sequence[Tuning], holds: Callable[[Trial], bool]) -> str:
    """`sam 2, vsam 1`: of how many trials this holds."""
    counts: Mapping[str, int] = {arm.labels["optimizer"]: sum(map(holds, arm.trials)) for arm in arms}
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count)

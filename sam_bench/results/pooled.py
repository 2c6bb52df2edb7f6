"""One test over several data sets: paired differences in units of the base arm's spread, put together.

A table of six data sets and six methods has 36 comparisons, and after Holm's correction few seeds can show nothing in
any of them. Pooled, each method is one comparison with as many pairs as data sets times seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sam_bench.results.arms import Arm, Block
from sam_bench.results.stats import ENOUGH_SEEDS, Comparison, compare, differences, pairs_needed
from sam_bench.results.tables.cells import difference_cell, test_cell
from sam_bench.results.tables.render import Cell, Section
from sam_bench.results.verify import unfair

DIGITS = 3  # decimals of a gain


@dataclass(frozen=True)
class Pooled:
    """A method against the base arms of several blocks; `wins` counts the blocks with a better mean.

    The unit of `versus` is one sample standard deviation of the base arm over its seeds, on each data set its own;
    positive is better, whatever the metric's direction.
    """

    name: str
    versus: Comparison
    blocks: int
    wins: int
    fair: bool


def pooled(blocks: Sequence[Block]) -> list[Pooled]:
    """The pooled comparison of each arm that every block has, in the first block's order; Holm's family is these.

    Empty for fewer than two blocks. A block whose base arm has fewer than two runs, or no spread, has no unit: then
    nothing is pooled that would need it, and the arm is left out.
    """
    if len(blocks) < 2:
        return []
    found = []
    for name in dict.fromkeys(arm.name for arm in blocks[0].arms if arm.base is not None):
        arms = [arm for block in blocks for arm in block.arms if arm.name == name and arm.base is not None and arm.runs]
        scaled = [_scaled(arm) for arm in arms]
        if len(arms) == len(blocks) and all(gains.size for gains in scaled):
            found.append((name, arms, scaled))
    versus = compare([(np.concatenate(scaled), True) for _, _, scaled in found])
    return [
        Pooled(name, test, len(arms), sum(float(gains.mean()) > 0 for gains in scaled), not any(map(unfair, arms)))
        for (name, arms, scaled), test in zip(found, versus, strict=True)
    ]


def _scaled(arm: Arm) -> np.ndarray:
    """Paired gains over the base arm in units of its spread, shape (pairs,); empty where there is no unit."""
    if arm.base is None:
        return np.empty(0)
    spread = arm.base.score.std
    gains = differences(arm.scores, arm.base.scores) * (1.0 if arm.metric["higher_is_better"] else -1.0)
    return gains / spread if math.isfinite(spread) and spread > 0 else gains[:0]


def section(blocks: Sequence[Block]) -> Section | None:
    """The pooled test as a printed table; None where there is nothing to pool."""
    rows = pooled(blocks)
    if not rows:
        return None
    cells = []
    for row in rows:
        v = row.versus
        passes = row.fair and v.significant
        gain = difference_cell(v, 1.0, DIGITS)
        mark = ("*" if passes else "") + ("" if row.fair else "§")
        cells.append([
            Cell(row.name), replace(gain, text=gain.text + mark, bold=passes and v.better), test_cell(v),
            Cell(f"{row.wins} of {row.blocks}", value=row.wins), Cell(str(v.n), value=v.n),
        ])  # fmt: skip
    notes = [
        "gain: method minus erm, paired by data set and seed, in units of erm's standard deviation over the seeds of "
        "that data set; positive is better. Mean over all pairs and its 95 % bootstrap interval (BCa).",
        "p: sign-flip test over all pairs (exact up to 14 pairs, else 16,384 drawn patterns), Holm over these methods.",
    ]
    needed = pairs_needed(len(rows))
    if any(ENOUGH_SEEDS <= row.versus.n < needed for row in rows):
        notes.append(f"{len(rows)} comparisons: below {needed} pairs no gain reaches p < 0.05 after Holm.")
    if any(row.versus.too_few for row in rows):
        notes.append(f"too few seeds: below {ENOUGH_SEEDS} pairs of data set and seed no gain reaches p < 0.05.")
    if any(row.fair and row.versus.significant for row in rows):
        notes.append("* p < 0.05; bold where the method is better.")
    if not all(row.fair for row in rows):
        notes.append("§ not a fair comparison on at least one data set (see sam-bench verify).")
    header = ["optimizer", "gain over erm, in erm's spreads [95 %]", "p (Holm)", "data sets with a gain", "pairs"]
    return Section("pooled over data sets", header, cells, notes)

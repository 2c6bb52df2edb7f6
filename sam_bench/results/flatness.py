"""Do flatter weights test better? Kendall's tau of each measure of sharpness with the test metric.

Only runs with the same seed and split are ranked against each other: they share data, initialisation and order of the
samples, and differ by the method. So a lucky split is no evidence. Each seed gives one tau, and the taus are tested
like the paired differences of a table.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from sam_bench.results.arms import Arm, Block, seeds_of
from sam_bench.results.measured import COLUMNS, value
from sam_bench.results.stats import Comparison, compare
from sam_bench.results.tables.cells import difference_cell, test_cell
from sam_bench.results.tables.render import Cell, Section
from sam_bench.store.index import score
from sam_bench.store.measurements import Sharpness

MEASURES = ("largest_eigenvalue", "trace", "m_sharpness", "ball_rise")
LEAST = 3  # runs to rank; two runs give 1 or -1 whatever they are
DIGITS = 2

Chosen = Mapping[Arm, Sequence[Sharpness]]


def points(block: Block, chosen: Chosen, measure: str) -> Iterator[tuple[Arm, tuple[int, int], float, float]]:
    """(arm, (seed, split_seed), sharpness, test metric) of every measured run of a block that has both."""
    for arm in block.arms:
        runs = {run["run_id"]: run for run in arm.runs}
        for content in chosen.get(arm, ()):
            run = runs[content["run_id"]]
            pair = (value(content, measure), score(run))
            if all(map(math.isfinite, pair)):
                yield (arm, seeds_of(run), *pair)


def taus(block: Block, chosen: Chosen, measure: str) -> np.ndarray:
    """Kendall's tau-b over the runs of each seed, positive where sharper runs test worse: (seeds,).

    Left out: a seed with fewer than three runs, or whose runs are all equal in one of the two.
    """
    from scipy.stats import kendalltau

    sign = -1.0 if block.metric["higher_is_better"] else 1.0
    ranked: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for _, seeds, sharp, tested in points(block, chosen, measure):
        ranked.setdefault(seeds, []).append((sharp, sign * tested))
    found = [kendalltau(*zip(*ranked[s], strict=True)).statistic for s in sorted(ranked) if len(ranked[s]) >= LEAST]
    return np.array([tau for tau in found if not math.isnan(tau)], dtype=float)


def correlations(blocks: Sequence[Block], chosen: Chosen) -> dict[str, Comparison]:
    """The mean tau of each measure over all seeds of these blocks, with interval and test; Holm's family is these."""
    samples = {measure: np.concatenate([taus(block, chosen, measure) for block in blocks]) for measure in MEASURES}
    samples = {measure: sample for measure, sample in samples.items() if sample.size}
    return dict(zip(samples, compare([(sample, False) for sample in samples.values()]), strict=True))


def sections(found: Sequence[Block], chosen: Chosen) -> list[Section]:
    """One table for each block, and before them one for all blocks together; blocks that nobody measured have none."""
    own = [(block, known) for block in found if (known := correlations([block], chosen))]
    together = correlations([block for block, _ in own], chosen) if len(own) > 1 else {}
    shown = [("all data sets", together)] if together else []
    return [_section(title, known) for title, known in [*shown, *((block.title, known) for block, known in own)]]


def _section(title: str, known: Mapping[str, Comparison]) -> Section:
    rows = [
        [Cell(COLUMNS[measure][0].removesuffix(" (n)")), difference_cell(tau, 1.0, DIGITS), test_cell(tau),
         Cell(str(tau.n), value=tau.n)]
        for measure, tau in known.items()
    ]  # fmt: skip
    notes = [
        "tau: Kendall's rank correlation over the methods that share a seed and its split, mean over the seeds with "
        "its 95 % bootstrap interval (BCa). +1: the sharper weights always test worse; 0: no relation.",
        "p: sign-flip test of the taus of all seeds, Holm over these measures. Methods change more than sharpness, so "
        "this shows what goes together and not what causes what.",
    ]
    return Section(f"sharpness and test metric: {title}", ["measure", "tau [95 %]", "p (Holm)", "seeds"], rows, notes)

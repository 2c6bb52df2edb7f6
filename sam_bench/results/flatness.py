"""Do flatter weights test better? Kendall's tau of each measure of sharpness with the test metric.

Only runs with the same seed and split are ranked against each other: they share data, initialisation and order of the
samples, and differ by the method. So a lucky split is no evidence. Each seed gives one tau.

The seeds are no independent evidence either: a method that is flat and tests badly is so with every seed. What differs
are the methods, so it is they that the test permutes.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sam_bench.results.arms import Arm, Block, seeds_of
from sam_bench.results.measured import COLUMNS, value
from sam_bench.results.stats import Comparison, compare, holm
from sam_bench.results.tables.cells import difference_cell, p_value
from sam_bench.results.tables.render import Cell, Section
from sam_bench.store.index import score
from sam_bench.store.measurements import Sharpness

MEASURES = ("largest_eigenvalue", "trace", "m_sharpness", "ball_rise")
LEAST = 3  # runs to rank; two runs give 1 or -1 whatever they are
DIGITS = 2
EXACT_UP_TO = 7  # methods: 5,040 permutations; of more, as many are drawn
DRAWN = 5040

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


@dataclass(frozen=True)
class Relation:
    """How a measure goes with the test metric.

    `mean` is that of the seeds' taus, with its interval; `p` that of the permuted methods, of which there are
    `methods`; `p_holm` is after Holm's correction over the measures.
    """

    mean: Comparison
    methods: int
    p: float
    p_holm: float = math.nan


def ranked(block: Block, chosen: Chosen, measure: str) -> list[dict[str, tuple[float, float]]]:
    """For each seed {method: (sharpness, test error)}; seeds with fewer than three runs are left out."""
    sign = -1.0 if block.metric["higher_is_better"] else 1.0
    found: dict[tuple[int, int], dict[str, tuple[float, float]]] = {}
    for arm, seeds, sharp, tested in points(block, chosen, measure):
        found.setdefault(seeds, {})[arm.name] = (sharp, sign * tested)
    return [found[seeds] for seeds in sorted(found) if len(found[seeds]) >= LEAST]


def taus(block: Block, chosen: Chosen, measure: str) -> np.ndarray:
    """Kendall's tau-b over the runs of each seed, positive where sharper runs test worse: (seeds,).

    Left out: a seed with fewer than three runs, or whose runs are all equal in one of the two.
    """
    return _taus(ranked(block, chosen, measure))


def _taus(seeds: Sequence[Mapping[str, tuple[float, float]]]) -> np.ndarray:
    from scipy.stats import kendalltau

    found = [kendalltau(*zip(*seed.values(), strict=True)).statistic for seed in seeds]
    return np.array([tau for tau in found if not math.isnan(tau)], dtype=float)


def permuted(seeds: Sequence[Mapping[str, tuple[float, float]]]) -> tuple[int, float]:
    """Number of methods that every seed has, and the two-sided p of their mean tau over permutations of the methods.

    A permutation gives each method the sharpness of another one, the same one with every seed. Exact for up to seven
    methods, else over 5,040 drawn permutations and the observed order. p is NaN below three methods.
    """
    names = [name for name in (seeds[0] if seeds else ()) if all(name in seed for seed in seeds)]
    k = len(names)
    if k < LEAST:
        return k, math.nan
    values = np.array([[seed[name] for name in names] for seed in seeds])  # (seeds, methods, 2)
    order = np.sign(values[:, :, None] - values[:, None, :])  # of each pair of methods
    lengths = np.sqrt((order**2).sum((1, 2)).prod(-1))
    known = lengths > 0  # tau-b does not exist where all are equal
    # [a, b, i, j]: what a and b's order of sharpness says of i and j's order of test errors, over all seeds
    agreement = np.einsum("sab,sij->abij", order[known, :, :, 0] / lengths[known, None, None], order[known, :, :, 1])
    orders = _orders(k)
    first, second = np.indices((k, k))
    means = agreement[orders[:, first], orders[:, second], first, second].sum((1, 2))
    return k, float((np.abs(means) >= abs(means[0]) - 1e-9).mean())


def _orders(k: int) -> np.ndarray:
    """Permutations of k methods (permutations, k); the first changes nothing."""
    if k <= EXACT_UP_TO:
        return np.array(list(itertools.permutations(range(k))))
    draw = np.random.default_rng(0)
    return np.stack([np.arange(k), *(draw.permutation(k) for _ in range(DRAWN))])


def correlations(blocks: Sequence[Block], chosen: Chosen) -> dict[str, Relation]:
    """How each measure goes with the test metric over all seeds of these blocks; Holm's family is the measures."""
    seeds = {measure: [s for block in blocks for s in ranked(block, chosen, measure)] for measure in MEASURES}
    samples = {measure: sample for measure, own in seeds.items() if (sample := _taus(own)).size}
    found = {}
    for measure, mean in zip(samples, compare([(sample, False) for sample in samples.values()]), strict=True):
        found[measure] = Relation(mean, *permuted(seeds[measure]))
    corrected = holm([relation.p for relation in found.values()])
    return {name: replace(found[name], p_holm=p) for name, p in zip(found, corrected, strict=True)}


def sections(found: Sequence[Block], chosen: Chosen) -> list[Section]:
    """One table for each block, and before them one for all blocks together; blocks that nobody measured have none."""
    own = [(block, known) for block in found if (known := correlations([block], chosen))]
    together = correlations([block for block, _ in own], chosen) if len(own) > 1 else {}
    shown = [("all data sets", together)] if together else []
    return [_section(title, known) for title, known in [*shown, *((block.title, known) for block, known in own)]]


def _section(title: str, known: Mapping[str, Relation]) -> Section:
    rows = [
        [Cell(COLUMNS[measure][0].removesuffix(" (n)")), difference_cell(found.mean, 1.0, DIGITS),
         Cell("-" if math.isnan(found.p) else p_value(found.p_holm), value=found.p_holm),
         Cell(str(found.mean.n), value=found.mean.n), Cell(str(found.methods), value=found.methods)]
        for measure, found in known.items()
    ]  # fmt: skip
    notes = [
        "tau: Kendall's rank correlation over the methods that share a seed and its split, mean over the seeds with "
        "its 95 % bootstrap interval over the seeds (BCa). +1: the sharper weights always test worse; 0: no relation.",
        "p: permutation test, Holm over these measures. It gives each method the sharpness of another one, the same "
        "with every seed, and counts how often the mean tau is as far from 0: so what is tested is a relation between "
        "methods, of which there are few. Methods change more than sharpness: this shows what goes together, not what "
        "causes what.",
    ]
    header = ["measure", "tau [95 %]", "p (Holm)", "seeds", "methods"]
    return Section(f"sharpness and test metric: {title}", header, rows, notes)

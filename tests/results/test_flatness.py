"""Kendall's tau of sharpness and test metric: within a seed, by hand, and in the table."""

import itertools

import numpy as np
import pytest
from scipy.stats import kendalltau
from support.fabricated import make_added, make_record, write, write_added

from sam_bench.results import flatness, measured
from sam_bench.results.arms import blocks
from sam_bench.results.figures.measured import sharpness_against_test
from sam_bench.results.tables.table import table
from sam_bench.store import index

METHODS = ("erm", "sam", "vsam", "graphsam")


def stored(results_dir, dataset, tested, eigenvalues, seeds=range(6)):
    """Measured runs: `tested(method, seed)` is the test metric, `eigenvalues(method, seed)` the largest eigenvalue."""
    records = []
    for method, seed in itertools.product(METHODS, seeds):
        record = make_record(method, seed, dataset)
        name = f"test/{record['metric']['name']}"
        record["metrics"] |= {name: tested(method, seed)}
        write(results_dir, record)
        eigenvalue = make_added(record, "sharpness")["largest_eigenvalue"] | {"value": eigenvalues(method, seed)}
        write_added(results_dir, record, "sharpness", largest_eigenvalue=eigenvalue)
        records.append(record["run_id"])
    return records


def found_in(results_dir, names):
    found = blocks(index.load(results_dir, names))
    return found, measured.measured(found)


@pytest.mark.parametrize(("dataset", "sign"), [("bbbp", 1), ("esol", -1)])
def test_sharper_runs_that_always_test_worse_have_tau_one_whatever_the_metrics_direction(results_dir, dataset, sign):
    """A larger ROC-AUC is better, a larger RMSE worse."""
    place = METHODS.index
    names = stored(
        results_dir, dataset, lambda m, s: 0.5 - sign * 0.01 * place(m), lambda m, s: 10.0 + place(m) + 100 * s
    )
    (block,), chosen = found_in(results_dir, names)
    assert flatness.taus(block, chosen, "largest_eigenvalue").tolist() == [1.0] * 6


def test_a_seed_whose_split_is_easy_and_flat_is_no_evidence(results_dir):
    """Between seeds flatter is always better, within each seed it is the other way round: tau sees the latter."""
    place = METHODS.index
    names = stored(
        results_dir, "bbbp", lambda m, s: 0.5 + 0.05 * s + 0.001 * place(m), lambda m, s: 100.0 - 10 * s + place(m)
    )
    (block,), chosen = found_in(results_dir, names)
    assert flatness.taus(block, chosen, "largest_eigenvalue").tolist() == [-1.0] * 6


def test_tau_by_hand(results_dir):
    """Four runs, five of six pairs in order, one the other way: tau = (5 - 1) / 6."""
    sharp = dict(zip(METHODS, (1.0, 2.0, 3.0, 4.0), strict=True))
    error = dict(zip(METHODS, (0.1, 0.3, 0.2, 0.4), strict=True))
    names = stored(results_dir, "esol", lambda m, s: error[m], lambda m, s: sharp[m], seeds=[0])
    (block,), chosen = found_in(results_dir, names)
    assert flatness.taus(block, chosen, "largest_eigenvalue") == pytest.approx([4 / 6])


def test_two_runs_of_a_seed_or_equal_ones_are_not_ranked(results_dir):
    names = stored(results_dir, "esol", lambda m, s: 0.5 if s else 0.5 + METHODS.index(m), lambda m, s: 7.0 + s)
    (block,), chosen = found_in(results_dir, names)
    assert flatness.taus(block, chosen, "largest_eigenvalue").size == 0
    assert "largest_eigenvalue" not in flatness.correlations([block], chosen)
    two = {arm: values for arm, values in chosen.items() if arm.name in ("erm", "sam")}
    assert not any(flatness.taus(block, two, measure).size for measure in flatness.MEASURES)
    assert flatness.sections([block], two) == []


def test_the_table_has_it_for_each_data_set_and_for_all_together(results_dir):
    place = METHODS.index
    names = stored(results_dir, "esol", lambda m, s: 0.5 + 0.01 * place(m), lambda m, s: 1.0 + place(m))
    names += stored(results_dir, "bbbp", lambda m, s: 0.5 + 0.01 * place(m), lambda m, s: 1.0 + place(m))
    text = table(index.load(results_dir, names))
    both = text[text.index("sharpness and test metric: all data sets") :].splitlines()
    row = next(line for line in both if line.startswith("largest eigenvalue"))
    assert row.split()[2:4] == ["0.00", "[-0.50,"]  # six taus of 1 and six of -1
    assert row.split()[-2:] == ["12", "4"]  # seeds, methods
    esol = text[text.index("sharpness and test metric: esol") :].splitlines()
    row = next(line for line in esol if line.startswith("largest eigenvalue")).split()
    assert row[2] == "+1.00"
    assert float(row[-3]) >= 4 * 2 / 24 - 0.001  # of 24 permutations two have a tau of 1 or -1; four measures
    assert row[-2:] == ["6", "4"]


def test_the_permutation_test_by_brute_force():
    """Every order of four methods, tau by scipy; sharpness and error have equal values, and a seed lacks a method."""
    draw = np.random.default_rng(1)
    for _ in range(5):
        sharp, error = draw.integers(0, 4, (2, 5, 4)).astype(float)
        seeds = [dict(zip(METHODS, zip(*pair, strict=True), strict=True)) for pair in zip(sharp, error, strict=True)]
        means = []
        for order in itertools.permutations(range(4)):
            every = [kendalltau(s[list(order)], e).statistic for s, e in zip(sharp, error, strict=True)]
            means.append(np.nanmean(every))
        p = np.mean(np.abs(means) >= abs(means[0]) - 1e-9)
        assert flatness.permuted(seeds) == (4, pytest.approx(p))
    three = [{name: pair for name, pair in seed.items() if name != "sam" or i} for i, seed in enumerate(seeds)]
    assert flatness.permuted(three) == flatness.permuted(
        [{n: seed[n] for n in METHODS if n != "sam"} for seed in seeds]
    )
    assert flatness.permuted(three)[0] == 3


def test_more_seeds_of_the_same_methods_are_no_more_evidence():
    """Three methods that are alike in all of a hundred seeds: six permutations, two of them as far from 0."""
    seeds = [{"erm": (1.0, 1.0), "sam": (2.0, 2.0), "vsam": (3.0, 3.0)}] * 100
    assert flatness.permuted(seeds) == (3, pytest.approx(2 / 6))
    assert flatness.permuted([{"erm": (1.0, 1.0), "sam": (2.0, 2.0)}])[0] == 2


def test_many_methods_are_permuted_at_random():
    draw = np.random.default_rng(2)
    noise = [{str(i): tuple(draw.normal(size=2)) for i in range(9)} for _ in range(8)]
    agreed = [{str(i): (i + draw.normal(), i + draw.normal()) for i in range(9)} for _ in range(8)]
    assert flatness.permuted(agreed) == (9, pytest.approx(1 / (flatness.DRAWN + 1), abs=0.001))
    assert flatness.permuted(noise)[1] > 0.05


def test_its_figure_says_the_same(results_dir):
    place = METHODS.index
    names = stored(results_dir, "esol", lambda m, s: 0.5 + s + 0.01 * place(m), lambda m, s: 1.0 + place(m))
    found, _ = found_in(results_dir, names)
    figure = sharpness_against_test(found)
    axis = figure.axes[0]
    assert axis.get_title().endswith("mean $\\tau$ of 6 seeds: 1.00")
    heights = [y for line in axis.lines for y in line.get_ydata()]
    assert max(map(abs, heights)) == pytest.approx(0.015)  # the seeds' own levels are gone
    assert sharpness_against_test(blocks(index.load(results_dir, []))) is None

"""The test over several data sets, against numbers made by hand."""

import math

import numpy as np
import pytest
from support.made_gains import SEEDS, records

from sam_bench.results import pooled, stats
from sam_bench.results.arms import blocks
from sam_bench.results.tables.table import table


def test_gains_are_in_spreads_of_the_base_and_point_to_the_better_side():
    (row,) = pooled.pooled(blocks(records(lambda *_: 0.5)))
    assert (row.name, row.blocks, row.wins, row.versus.n) == ("sam", 2, 2, 16)
    assert row.versus.mean == pytest.approx(0.5)
    assert row.versus.better
    assert row.versus.significant


def test_the_test_is_the_sign_flip_test_of_all_scaled_pairs():
    draw = np.random.default_rng(1)
    gains = {(dataset, seed): draw.normal(0.3) for dataset in ("bbbp", "esol") for seed in SEEDS}
    (row,) = pooled.pooled(blocks(records(lambda _, dataset, seed: gains[dataset, seed])))
    values = np.array(list(gains.values()))
    assert row.versus.p == pytest.approx(stats.sign_flip(values))
    assert row.versus.mean == pytest.approx(values.mean())
    assert (row.versus.low, row.versus.high) == pytest.approx(stats.interval(values))


def test_holm_counts_the_methods_and_not_the_data_sets():
    draw = np.random.default_rng(2)
    gains = {(o, d, s): draw.normal(0.5) for o in ("sam", "looksam", "vsam") for d in ("bbbp", "esol") for s in SEEDS}
    rows = pooled.pooled(blocks(records(lambda *key: gains[key], optimizers=("erm", "sam", "looksam", "vsam"))))
    assert [row.name for row in rows] == ["sam", "looksam", "vsam"]
    assert [row.versus.p_holm for row in rows] == stats.holm([row.versus.p for row in rows])


def test_a_gain_on_one_set_and_a_loss_on_the_other_cancel():
    (row,) = pooled.pooled(blocks(records(lambda _, dataset, seed: 0.5 if dataset == "bbbp" else -0.5)))
    assert row.versus.mean == pytest.approx(0.0, abs=1e-12)
    assert row.wins == 1
    assert not row.versus.significant


def test_only_methods_that_every_data_set_has_are_pooled():
    every = records(lambda *_: 0.5, optimizers=("erm", "sam", "vsam"))
    kept = [r for r in every if (r["labels"]["dataset"], r["labels"]["optimizer"]) != ("esol", "vsam")]
    assert [row.name for row in pooled.pooled(blocks(kept))] == ["sam"]
    assert pooled.pooled(blocks(records(lambda *_: 0.5, datasets=("bbbp",)))) == []


def test_a_base_without_spread_has_no_unit():
    same = records(lambda *_: 0.5)
    for record in same:
        if record["labels"]["dataset"] == "esol" and record["labels"]["optimizer"] == "erm":
            record["metrics"]["test/rmse"] = 1.0
    assert pooled.pooled(blocks(same)) == []


def test_few_pairs_are_called_few():
    (row,) = pooled.pooled(blocks(records(lambda *_: 0.5, seeds=range(2))))
    assert row.versus.too_few
    assert math.isnan(row.versus.p_holm)
    assert "too few seeds (4)" in table(records(lambda *_: 0.5, seeds=range(2)))


def test_the_table_shows_it_once_there_are_several_data_sets():
    text = table(records(lambda *_: 0.5), format="markdown")
    assert "### pooled over data sets" in text
    assert "| sam | **+0.500 [0.500, 0.500]\\*** | \\< 0.001 | 2 of 2 | 16 |" in text
    assert "pooled" not in table(records(lambda *_: 0.5, datasets=("bbbp",)))


def test_an_unfair_arm_is_marked_and_never_bold():
    unfair = records(lambda *_: 0.5)
    for record in unfair:
        if record["labels"]["dataset"] == "esol" and record["labels"]["optimizer"] == "sam":
            record["data"]["split_sha256"] = "0" * 64
    (row,) = pooled.pooled(blocks(unfair))
    assert not row.fair
    assert "[0.500, 0.500]§" in table(unfair)

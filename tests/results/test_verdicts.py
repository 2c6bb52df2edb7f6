"""Verdicts on published claims: each outcome from records made for it, and the shipped claims."""

import functools

import pytest
from support.made_gains import SEEDS, records

from sam_bench.errors import UsageError
from sam_bench.results import verdicts
from sam_bench.store.studies import NoStudy

POOLED = verdicts.Claim("better", "a paper", "digits", "sam", "pooled")


def decided(claim, made, planned=None):
    return verdicts.decide(claim, planned or len(made), made)


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [
        (lambda *key: 0.5 + 0.01 * key[-1], "reproduced"),
        (lambda *key: -0.5 - 0.01 * key[-1], "not reproduced"),
        (lambda *key: (-1) ** key[-1] * 0.5, "undecided"),
    ],
)
@pytest.mark.parametrize("test", ["pooled", "bbbp", "esol"])
def test_the_verdict_follows_the_test(gain, verdict, test):
    claim = verdicts.Claim("better", "a paper", "digits", "sam", test)
    found = decided(claim, records(gain))
    assert found.verdict == verdict
    assert found.pairs == (16 if test == "pooled" else 8)


def test_nothing_is_decided_before_all_runs_are_there():
    made = records(lambda *_: 0.5)
    found = decided(POOLED, made, len(made) + 1)
    assert (found.verdict, found.reason, found.gain) == ("not finished", f"{len(made)} of {len(made) + 1} runs", "-")


def test_few_pairs_and_unfair_arms_decide_nothing():
    assert decided(POOLED, records(lambda *_: 0.5, seeds=range(2))).verdict == "undecided"
    unfair = records(lambda *_: 0.5)
    for record in unfair:
        if (record["labels"]["dataset"], record["labels"]["optimizer"]) == ("esol", "sam"):
            record["data"]["split_sha256"] = "0" * 64
    found = decided(POOLED, unfair)
    assert found.verdict == "undecided"
    assert found.reason.startswith("not a fair comparison: differ in split_sha256")


def test_an_interval_beyond_zero_decides_nothing_if_the_corrected_test_does_not():
    """Six of eight pairs are losses: the interval lies below 0, one test has p = 8 / 2^8, and Holm doubles it."""

    def gain(optimizer, _, seed):
        return 0.05 * (-1) ** seed if optimizer == "vsam" else 0.1 if seed < 2 else -0.5

    made = records(gain, optimizers=("erm", "sam", "vsam"))
    found = decided(verdicts.Claim("better", "a paper", "digits", "sam", "bbbp"), made)
    mean, low, high = (float(text.strip("[,]")) for text in found.gain.split())
    assert low < mean < high < 0
    assert found.p == pytest.approx(2 * 8 / 2**8)
    assert (found.verdict, found.reason) == ("undecided", "the test finds no difference")


def test_a_claim_about_cost_is_a_count():
    made = records(lambda *_: 0.0)
    passes = max(record["grad_evals_per_step"] for record in made if record["labels"]["optimizer"] == "sam")
    for at_most, verdict in ((passes, "reproduced"), (passes - 0.01, "not reproduced")):
        found = decided(verdicts.Claim("cheap", "a paper", "digits", "sam", "esol", at_most=at_most), made)
        assert (found.verdict, found.pairs) == (verdict, len(SEEDS))  # on the named data set only


def test_the_gain_of_an_error_is_where_it_falls():
    claim = verdicts.Claim("better", "a paper", "digits", "sam", "esol")
    assert decided(claim, records(lambda *_: 0.5)).gain.startswith("0.5000 [0.5000, 0.5000]")


def test_an_experiment_that_was_not_run_is_not_finished():
    asked = []

    def nothing(experiment, overrides):
        asked.append(experiment)
        raise NoStudy("there is no tuning study 'x'")

    for found in verdicts.verdicts([POOLED, POOLED], nothing):
        assert (found.verdict, found.reason) == ("not finished", "not all of its data sets are tuned")
    assert asked == ["digits"]  # planning hundreds of runs takes seconds


@pytest.mark.slow
def test_the_shipped_claims_can_be_planned():
    from sam_bench.config.compose import plan

    planned = functools.cache(plan)
    for claim in verdicts.read():
        cells = planned(claim.experiment, tuple(word for word in claim.overrides if not word.startswith("tuned=")))
        assert claim.optimizer in {cell.labels["optimizer"] for cell in cells}
        assert claim.test == "pooled" or claim.test in {cell.labels["dataset"] for cell in cells}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- {claim: a, sauce: b}\n", "no 'sauce'. Did you mean 'source'"),
        ("- {claim: a}\n", "is not a list of claims"),
        ("claim\n", "is not a list of claims"),
        ("[\n", "is not a list of claims"),
    ],
)
def test_a_broken_file_of_claims_is_named(tmp_path, text, said):
    path = tmp_path / "claims.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        verdicts.read(path)

"""What tuning buys: the estimator, the tables that say what was tuned, and the checks of where options come from."""

import itertools
import math
import statistics

import pytest
from support.fabricated import grid, make_record, make_tuning, take, tune, write

from sam_bench.results.arms import blocks
from sam_bench.results.tables.table import table
from sam_bench.results.tuning import curve_of, expected_best, results_of, study_text
from sam_bench.results.verify import verify
from sam_bench.store import index, studies


def stored(results_dir, records):
    for record in records:
        write(results_dir, record)
    return index.load(results_dir, [record["run_id"] for record in records])


def found(findings, level, check="tuning"):
    return [finding.message for finding in findings if finding.level == level and finding.check == check]


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize("values", [[0.3], [0.5, 0.5, 0.9], [3.0, 1.0, 2.0, 5.0], [1.0, 1.0, 1.0]])
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_the_expected_best_is_the_mean_over_all_draws(values, k, higher):
    """Every one of the n^k draws with replacement, enumerated."""
    bests = [(max if higher else min)(draw) for draw in itertools.product(values, repeat=k)]
    mean, std = expected_best(values, k, higher)
    assert mean == pytest.approx(statistics.fmean(bests))
    assert std == pytest.approx(statistics.pstdev(bests), abs=1e-9)


def test_a_diverged_trial_counts_as_the_worst_of_all_arms():
    arm = make_tuning(make_record("sam"), diverged=(1,))
    other = make_tuning(make_record("erm"), trials=9)
    worst = min(trial.value for trial in other.trials)
    assert results_of(arm, [arm, other])[1] == worst
    assert math.isnan(arm.trials[1].value)
    assert "diverged trials count as the worst value of all: sam 1." in study_text([arm, other])


def test_the_curve_counts_all_gradient_evaluations():
    arm = make_tuning(make_record("sam"), trials=4)
    points = curve_of(arm, [arm])
    assert [point.k for point in points] == [1, 2, 3, 4]
    assert [point.grad_evals for point in points] == [250, 500, 750, 1000]  # of the average trial: 100 ... 400
    assert points[0].mean == pytest.approx(statistics.fmean(trial.value for trial in arm.trials))
    assert points[0].mean < points[3].mean < arm.winner.value


def test_tables_say_what_was_tuned_and_with_how_much(results_dir):
    plain = grid(("erm", "sam"), seeds=range(6))
    assert "Options: defaults." in table(stored(results_dir, plain))
    tuned = stored(results_dir, tune(results_dir, plain))
    text = table(tuned)
    assert "Options: tuned (4 trials of every method), study made_up." in text
    assert "tuning of bbbp / grover / adam" in text
    assert "expected best of 2" in text
    assert "§" not in text  # another lr than erm's is what tuning means
    assert found(verify(tuned), "fail", "base") == []
    both = table(index.load(results_dir, [record["run_id"] for record in (*plain, *tuned)]))
    assert "sam (defaults)" in both
    assert "sam (tuned, 4 trials)" in both


def test_a_tuned_arm_is_compared_with_the_tuned_base(results_dir):
    plain = grid(("erm", "sam"), seeds=range(6))
    records = [*plain, *tune(results_dir, plain)]
    (block,) = blocks(stored(results_dir, records))
    compared = {arm.name: arm.base and arm.base.name for arm in block.arms}
    assert compared["sam (tuned, 4 trials)"] == "erm (tuned, 4 trials)"
    assert compared["sam (defaults)"] == "erm (defaults)"


def test_unequal_trials_and_a_base_that_nobody_tuned_are_unfair(results_dir):
    erm, sam = grid(("erm",), seeds=range(6)), grid(("sam",), seeds=range(6))
    alone = stored(results_dir, [*erm, *tune(results_dir, sam)])
    (message,) = found(verify(alone), "fail")
    assert "differ in tuning trials (4, 0)" in message
    assert "§" in table(alone)
    unequal = stored(
        results_dir, [*tune(results_dir, erm, study="two", trials=2), *tune(results_dir, sam, study="two")]
    )
    assert "differ in tuning trials (4, 2)" in found(verify(unequal), "fail")[0]
    assert "NOT THE SAME NUMBER OF TRIALS: erm 2, sam 4." in table(unequal)


def test_a_study_that_was_made_again_or_edited_or_lost_is_found(results_dir):
    records = stored(results_dir, tune(results_dir, grid(("erm", "sam"), seeds=range(6))))
    assert verify(records) == []
    sam = next(path for path in studies.study_files("made_up") if "-sam-" in path.name)
    kept = sam.read_text()
    studies.write(make_tuning(make_record("sam"), trials=9), sam.parent)
    assert "the study made_up has changed since" in found(verify(records), "fail")[0]
    sam.write_text(kept.replace("grad_evals: 100\n", "grad_evals: 99\n"))
    assert "was changed after it was written" in found(verify(records), "warn")[0]
    for path in sam.parent.iterdir():
        path.unlink()
    assert "cannot be checked" in found(verify(records), "warn")[0]


def test_other_options_than_the_winners_and_an_edge_are_found(results_dir):
    tuning = make_tuning(make_record("sam"))
    studies.write(tuning, results_dir / "tuned" / "made_up")
    other = take(make_record("sam"), tuning)
    other["config"]["optimizer"]["rho"] = 0.07
    (message,) = found(verify([other]), "fail")
    assert "its options are not the winner's" in message
    longer = take(make_record("sam", epochs=50), tuning)
    assert "other options besides those" in found(verify([longer]), "warn")[0]
    narrow = {key: {**rule, "low": 0.00099} for key, rule in tuning.space.items()}
    edge = make_tuning(make_record("sam"), study="edge", space=narrow)
    studies.write(edge, results_dir / "tuned" / "edge")
    messages = found(verify([take(make_record("sam"), edge)]), "warn")
    assert len(messages) == 2
    assert "the best base.lr lies at the end" in messages[0]
    assert "the best optimizer.rho lies at the end" in messages[1]


def test_a_tuning_run_with_a_test_metric_is_found():
    record = make_record("sam")
    record["config"]["test"] = False
    assert any("has read the test split" in finding.message for finding in verify([record]))
    record["metrics"] = {key: value for key, value in record["metrics"].items() if not key.startswith("test/")}
    assert not any("has read the test split" in finding.message for finding in verify([record]))
    assert "n/a (0)" in table([record])

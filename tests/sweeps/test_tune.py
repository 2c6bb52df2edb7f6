"""Studies: equal trials and seeds for all arms, the same answers after any interruption; no run is trained."""

import itertools
import json

import pytest
from support.fabricated import failed, make_record, write_plainly

from sam_bench.config.compose import make_spec, plan
from sam_bench.config.composer import composer
from sam_bench.config.resolved import resolve, without_hydra
from sam_bench.errors import UsageError
from sam_bench.store import studies
from sam_bench.store.index import load
from sam_bench.sweeps import tune
from sam_bench.sweeps.sweep import pending

SEEDS = (1000, 1001)


def settings(**changes):
    given = {"study": "mine", "experiment": "digits", "overrides": ("optimizer=erm,sam",), "trials": 4, "seeds": SEEDS}
    return tune.Settings(**(given | changes))


class Maker:
    """Makes cells without training: the metric is a function of the learning rate and the seed."""

    def __init__(self, results, limit=None, diverges=lambda cell: False):
        self.results, self.made, self.limit, self.diverges = results, [], limit, diverges

    def __call__(self, cells):
        for cell in pending(cells, self.results, retry_failed=False):
            if self.limit is not None and len(self.made) == self.limit:
                raise KeyboardInterrupt
            self.made.append(cell)
            value = 0.9 - abs(cell.config["base"]["lr"] - 0.1) - (cell.config["seed"] - 1000) / 100
            value -= 0.1 * cell.config["optimizer"].get("rho", 0.0)
            record = make_record(cell.labels["optimizer"], cell.labels["seed"]) | {
                "run_id": cell.run_id, "labels": dict(cell.labels), "config": dict(cell.config),
                "metric": {"name": "accuracy", "higher_is_better": True}, "metrics": {"valid/accuracy": value},
            }  # fmt: skip
            if self.diverges(cell):
                record = failed(record)
                record["error"]["type"] = "NonFiniteLoss"
                folder = write_plainly(self.results, record)
                folder.rename(folder.with_name(f"{folder.name}.failed"))
            else:
                write_plainly(self.results, record)


def test_every_arm_gets_the_same_trials_seeds_epochs_and_shared_points(results_dir):
    maker = Maker(results_dir)
    erm, sam = tune.run(settings(), results_dir, maker)
    records = load(results_dir)
    assert len(records) == len(maker.made) == 2 * 4 * 2
    shared = {
        name: [(r["labels"]["seed"], r["config"]["base"]["lr"], r["config"]["base"]["weight_decay"]) for r in group]
        for name, group in itertools.groupby(
            sorted(records, key=lambda r: (r["labels"]["optimizer"], r["labels"]["seed"], r["config"]["base"]["lr"])),
            lambda r: r["labels"]["optimizer"],
        )
    }
    assert shared["erm"] == shared["sam"]
    assert {record["config"]["test"] for record in records} == {False}
    assert len({json.dumps(record["config"]["train"]) for record in records}) == 1
    assert {record["labels"]["seed"] for record in records} == set(SEEDS)
    assert [cell.labels["optimizer"] for cell in maker.made[:4]] == ["erm", "erm", "sam", "sam"]  # trial by trial
    assert len(erm.trials) == len(sam.trials) == 4
    assert erm.winner.value == max(trial.value for trial in erm.trials)
    assert erm.metric == "accuracy"
    assert set(sam.space) - set(erm.space) == {"optimizer.rho"}


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"sampler": "tpe", "trials": 9}, {"prune": True, "trials": 9}])
def test_killed_in_the_middle_and_begun_again_it_ends_the_same(tmp_path, options):
    whole = tune.run(settings(**options), tmp_path / "whole", Maker(tmp_path / "whole"))
    for limit in (5, 7):
        with pytest.raises(KeyboardInterrupt):
            tune.run(settings(**options), tmp_path / "torn", Maker(tmp_path / "torn", limit))
    last = Maker(tmp_path / "torn")
    assert tune.run(settings(**options), tmp_path / "torn", last) == whole
    again = Maker(tmp_path / "torn")
    assert tune.run(settings(**options), tmp_path / "torn", again) == whole
    assert again.made == []
    paths = [[studies.write(arm, tmp_path / name).read_bytes() for arm in whole] for name in ("a", "b")]
    assert paths[0] == paths[1]


def test_the_first_trials_are_the_study_of_fewer(results_dir):
    small = tune.run(settings(trials=2), results_dir, Maker(results_dir))
    maker = Maker(results_dir)
    large = tune.run(settings(trials=5), results_dir, maker)
    assert [arm.trials for arm in small] == [arm.trials[:2] for arm in large]
    assert len(maker.made) == 2 * 3 * 2


def test_pruned_trials_spend_less_and_never_win(results_dir):
    maker = Maker(results_dir)
    (arm,) = tune.run(settings(overrides=("optimizer=erm",), trials=12, prune=True), results_dir, maker)
    short = [trial for trial in arm.trials if len(trial.scores) == 1]
    assert short
    assert len(maker.made) == 24 - len(short)
    assert arm.winner not in short
    assert arm.pruned


def test_a_diverged_trial_counts_and_another_failure_stops_the_study(results_dir, tmp_path):
    maker = Maker(results_dir, diverges=lambda cell: cell.config["base"]["lr"] > 0.3)
    (arm,) = tune.run(settings(overrides=("optimizer=erm",)), results_dir, maker)
    lost = [trial for trial in arm.trials if None in trial.scores.values()]
    assert lost
    assert len(arm.trials) == 4
    assert arm.winner not in lost
    with pytest.raises(tune.Unfinished, match="has no record"):
        tune.run(settings(), tmp_path, lambda cells: None)

    def broken(cells):
        for cell in cells:
            record = failed(make_record(cell.labels["optimizer"], cell.labels["seed"]) | {"run_id": cell.run_id})
            folder = write_plainly(tmp_path, record)
            folder.rename(folder.with_name(f"{folder.name}.failed"))

    with pytest.raises(tune.Unfinished, match="FloatingPointError"):
        tune.run(settings(), tmp_path, broken)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": (2, 1001)}, "seed 2 is one of the final runs'"),
        ({"overrides": ("optimizer=sam", "base.lr=0.1")}, "base.lr is given, and would be tuned"),
        ({"overrides": ("optimizer=sam", "optimizer.rho=0.1,0.2")}, "optimizer.rho is given"),
    ],
)
def test_what_would_be_unfair_is_refused(results_dir, changes, said):
    with pytest.raises(UsageError, match=said):
        tune.run(settings(**changes), results_dir, Maker(results_dir))


def test_all_commands_name_the_cells_of_a_study(results_dir):
    for arm in tune.run(settings(), results_dir, Maker(results_dir)):
        studies.write(arm, results_dir / "tuned" / "mine")
    plain = plan("digits", ["optimizer=erm,sam"])
    tuned = plan("digits", ["optimizer=erm,sam", "tuned=mine"])
    assert len(tuned) == len(plain) == 6
    assert plan("digits", ["optimizer=erm,sam", "tuned=null"]) == plain
    both = [cell.run_id for cell in plan("digits", ["optimizer=erm,sam", "tuned=null,mine"])]
    assert both == [cell.run_id for cell in (*plain, *tuned)]
    for cell in tuned:
        arm = studies.find("mine", cell.labels, cell.config)
        assert cell.config["tuned"] == arm.mark
        assert cell.config["base"]["lr"] == arm.winner.values["base.lr"]
        assert cell.config["test"] is True
        with composer() as compose:  # the same, by Hydra alone
            whole = compose(cell.overrides)
        assert make_spec(resolve(without_hydra(whole)), whole.hydra.runtime.choices, cell.overrides) == cell
    with pytest.raises(UsageError, match=r"base\.lr was tuned by the study mine"):
        plan("digits", ["optimizer=sam", "base.lr=0.1", "tuned=mine"])
    with pytest.raises(UsageError, match="seed 1000 is a tuning seed"):
        plan("digits", ["optimizer=sam", "seed=1000", "tuned=mine"])
    with pytest.raises(UsageError, match="no arm for digits / fastnet_tiny / sgd / vsam"):
        plan("digits", ["optimizer=vsam", "tuned=mine"])


def test_a_study_that_the_grid_names_gives_way_to_what_is_given(results_dir, tmp_path, monkeypatch):
    for arm in tune.run(settings(), results_dir, Maker(results_dir)):
        studies.write(arm, results_dir / "tuned" / "mine")
    experiments = tmp_path / "configs" / "experiment"
    experiments.mkdir(parents=True)
    (experiments / "own.yaml").write_text(
        "# @package _global_\ndefaults: [{override /dataset: digits}, {override /model: fastnet_tiny},"
        " {override /base: sgd}, {override /schedule: cosine}]\n"
        'hydra: {sweeper: {params: {optimizer: "erm,sam,vsam", seed: "0", tuned: mine}}}\n'
    )
    monkeypatch.setenv("SAM_BENCH_CONFIGS", str(tmp_path / "configs"))
    erm, sam, vsam = plan("own")
    assert erm.config["tuned"]["study"] == sam.config["tuned"]["study"] == "mine"
    assert "tuned" not in vsam.config  # the study has no such arm
    assert plan("own", ["optimizer=sam", "tuned=mine"]) == [sam]
    (other,) = plan("own", ["optimizer=sam", "optimizer.rho=0.3"])
    assert "tuned" not in other.config
    assert other.config["base"]["lr"] == plan("own", ["optimizer=sam", "tuned=null"])[0].config["base"]["lr"]
    with pytest.raises(UsageError, match="seed 1000 is a tuning seed"):
        plan("own", ["optimizer=sam", "seed=1000"])


def test_reading_the_test_split_is_what_no_published_run_id_knows_of():
    from sam_bench.store.identity import important

    (cell,) = plan("digits", ["optimizer=sam", "seed=0"])
    (trial,) = plan("digits", ["optimizer=sam", "seed=0", "test=false"])
    assert cell.config["test"] is True
    assert "test" not in important(cell.config)
    assert trial.run_id != cell.run_id

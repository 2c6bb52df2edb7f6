"""Files of tuning studies: they are read back whole, an edit is noticed, and the trials name the winner."""

import pytest
from support.fabricated import make_record, make_tuning

from sam_bench.errors import UsageError
from sam_bench.store import studies


def test_a_study_is_read_back_and_its_bytes_are_its_own(tmp_path):
    tuning = make_tuning(make_record("sam"), diverged=(2,))
    path = studies.write(tuning, tmp_path / "study")
    assert studies.read(path) == tuning
    first = path.read_bytes()
    assert studies.write(studies.read(path), tmp_path / "study").read_bytes() == first


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("grad_evals: 100\n", "grad_evals: 99\n"),
        ("winner: {base.lr: 0.001", "winner: {base.lr: 0.002"),
        ("high: 0.1", "high: 0.2"),
        ("metric: roc_auc\n", ""),
        ("trials:", "trails:"),
    ],
)
def test_an_edited_file_is_refused(tmp_path, old, new):
    path = studies.write(make_tuning(make_record("sam")), tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UsageError, match=r"changed after it was written|is not the file"):
        studies.read(path)


def test_the_winner_is_the_best_whole_trial():
    tuning = make_tuning(make_record("sam"), trials=4)
    assert tuning.winner is tuning.trials[0]
    assert make_tuning(make_record("sam"), trials=4, diverged=(0,)).winner.grad_evals == 200
    assert make_tuning(make_record("sam", dataset="esol")).winner.grad_evals == 100  # smaller is better there
    assert make_tuning(make_record("sam"), trials=1, diverged=(0,)).winner is None
    pruned = studies.Trial(tuning.trials[0].values, {1000: 0.99}, 1)  # it ran under one seed only
    assert studies.Tuning(**{**vars(tuning), "trials": [pruned, *tuning.trials]}).winner is tuning.trials[0]


def test_edges_can_be_ends_that_have_no_beyond():
    def edges(value, **rule):
        tuning = make_tuning(make_record("sam"), trials=1, space={"optimizer.rho": rule})
        trial = studies.Trial({"optimizer.rho": value}, {1000: 0.5, 1001: 0.5}, 1)
        return studies.Tuning(**{**vars(tuning), "trials": [trial]}).edges

    log = {"low": 1e-4, "high": 0.1, "log": True}
    assert edges(1.2e-4, **log) == ["optimizer.rho"] == edges(0.09, **log)
    assert edges(3e-3, **log) == []
    assert edges(0.99, low=0.5, high=1.0) == ["optimizer.rho"]
    assert edges(0.99, low=0.5, high=1.0, limit="high") == []
    assert edges(0.51, low=0.5, high=1.0, limit="high") == ["optimizer.rho"]
    assert edges(5, choices=[1, 2, 5]) == []


def test_the_words_of_a_winner_are_read_back_by_hydra(results_dir):
    from sam_bench.config.compose import compose_specs

    tuning = make_tuning(make_record("sam"), study="a.b-c")
    words = ["dataset=digits", "model=fastnet_tiny", "optimizer=sam", "seed=3", *studies.words(tuning)]
    (cell,) = compose_specs(words)
    assert cell.config["tuned"] == tuning.mark
    assert cell.config["base"]["lr"] == tuning.winner.values["base.lr"]
    assert cell.config["optimizer"]["rho"] == tuning.winner.values["optimizer.rho"]
    (plain,) = compose_specs([word for word in words if not word.startswith("+tuned")])
    assert plain.run_id != cell.run_id  # where the values come from belongs to the run


def test_a_missing_study_is_named_with_those_that_exist(results_dir):
    studies.write(make_tuning(make_record("sam")), results_dir / "tuned" / "quickstart")
    with pytest.raises(UsageError, match="quickstart"):
        studies.load("quickstrat")

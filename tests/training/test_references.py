"""sam-bench references: fitted on the runs' molecules and split, better than a guess, and only for molecules."""

import numpy as np
import pytest

from sam_bench import cli
from sam_bench.config import build, compose
from sam_bench.datasets.molecules.fingerprints import morgan
from sam_bench.errors import UsageError
from sam_bench.training import references

SMALL = ["model=grover_small", "train.epochs=1", "train.max_steps=2"]


@pytest.fixture(autouse=True)
def few_trees(monkeypatch, tmp_path):
    monkeypatch.setattr(references, "TREES", 20)
    monkeypatch.setenv("SAM_BENCH_DATA", str(tmp_path / "data"))


def test_fingerprints_count_neighbourhoods():
    ethane, benzene = morgan(["CC", "c1ccccc1"])
    assert ethane.shape == (2048,)
    assert ethane.sum() == 2 + 1  # two atoms alike; one neighbourhood of both, the other is its duplicate
    assert benzene.max() == 6
    assert morgan([]).shape == (0, 2048)


def test_both_beat_the_mean_on_measured_activities(tmp_path):
    config = compose.compose_specs([*SMALL, "dataset=chembl2321810"])[0].config
    found = references.scores(config, tmp_path)
    task = build.build_task(config, tmp_path)
    y = task.targets.numpy()
    blind = np.sqrt(((y[task.splits["test"].numpy()] - y[task.splits["train"].numpy()].mean()) ** 2).mean())
    assert found["split_sha256"] == task.split_sha256
    for name in ("ridge", "random forest"):
        assert found[name]["test"] < 0.9 * blind


def test_missing_labels_and_single_classes_are_left_out_of_the_fit(tmp_path):
    rows = [f"{'C' * (1 + n % 9)}{'O' * (n % 2)},{n % 2},{'' if n % 3 else n % 2},1" for n in range(60)]
    (tmp_path / "my.csv").write_text("s,a,b,c\n" + "\n".join(rows) + "\n")
    words = [
        *SMALL,
        "dataset=csv",
        f"dataset.path={tmp_path / 'my.csv'}",
        "dataset.kind=binary",
        "dataset.split=random",
    ]
    found = references.scores(compose.compose_specs(words)[0].config, tmp_path)
    assert found["ridge"]["test"] == pytest.approx(1.0)
    assert found["random forest"]["test"] == pytest.approx(1.0)


def test_the_command_prints_them_beside_the_runs(results_dir, capsys):
    words = ["dataset=chembl2321810", "optimizer=erm", "seed=0", "model=grover_small", "train.max_steps=2"]
    assert cli.main(["run", "experiment=quickstart", *words, "split_seed=0"]) == 0
    capsys.readouterr()
    assert cli.main(["references", "quickstart", *words, "split_seed=0", "tuned=null"]) == 0
    printed = capsys.readouterr().out
    for name in ("ridge", "random forest", "grover_small-adam-erm"):
        assert f"| chembl2321810 | rmse | {name} |" in printed


def test_another_split_than_the_records_is_refused():
    with pytest.raises(UsageError, match="another split"):
        references._check_split({"run_id": "x", "data": {"split_sha256": "a"}}, "b")


def test_images_are_refused(tmp_path):
    config = compose.compose_specs(["dataset=digits", "model=vit_ti"])[0].config
    with pytest.raises(UsageError, match="references need molecules"):
        references.scores(config, tmp_path)

"""Simple references for an experiment on molecules: a random forest and ridge regression on Morgan fingerprints.

They use the same molecules, split and metric as the runs, and read the test split once. The penalty of ridge is chosen
on the valid split; the forest has nothing to choose.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import Ridge

from sam_bench.api import RunSpec
from sam_bench.config import build
from sam_bench.datasets.molecules.fingerprints import morgan
from sam_bench.datasets.task import Task
from sam_bench.errors import UsageError
from sam_bench.metrics import HIGHER_IS_BETTER

TREES = 100
PENALTIES = (1.0, 10.0, 100.0, 1000.0)
NAMES = ("ridge", "random forest")
Predict = Callable[[np.ndarray], np.ndarray]


def scores(config: Mapping[str, Any], data_dir: Path, jobs: int | None = None) -> dict[str, Any]:
    """{"ridge": {"valid": , "test": }, "random forest": ..., "split_sha256": } on the task of a configuration.

    Raises UsageError for anything but molecules.
    """
    name, modality = config["dataset"]["name"], config["dataset"]["modality"]
    if modality != "molecule":
        raise UsageError(f"{name} holds {modality}s, but references need molecules.")
    task = build.build_task(config, data_dir)
    x = morgan(task.source.smiles)
    better = max if HIGHER_IS_BETTER[task.metric] else min
    ridges = [_judged(task, x, _ridge(task, x, penalty)) for penalty in PENALTIES]
    defined = (found for found in ridges if not np.isnan(found["valid"]))
    ridge = better(defined, key=lambda found: found["valid"], default=ridges[0])
    forest = _judged(task, x, _forest(task, x, config["seed"], jobs))
    return {"ridge": ridge, "random forest": forest, "split_sha256": task.split_sha256}


def _judged(task: Task, x: np.ndarray, predict: Predict) -> dict[str, float]:
    y = task.targets.numpy().astype(np.float64)
    found = {}
    for part in ("valid", "test"):
        index = task.splits[part].numpy()
        found[part] = task.score(y[index], predict(x[index]))[0]
    return found


def _per_target(task: Task, x: np.ndarray, fit: Callable[[np.ndarray, np.ndarray], Predict]) -> Predict:
    """One model for each target, from the molecules that have a label; a target with one class predicts it."""
    index = task.splits["train"].numpy()
    models = []
    for column in task.targets.numpy().astype(np.float64)[index].T:
        there = ~np.isnan(column)
        known = np.unique(column[there])
        models.append(_constant(known) if len(known) < 2 else fit(x[index][there], column[there]))
    return lambda new: np.stack([model(new) for model in models], axis=1)


def _constant(known: np.ndarray) -> Predict:
    value = known[0] if len(known) else 0.0
    return lambda new: np.full(len(new), value)


def _ridge(task: Task, x: np.ndarray, penalty: float) -> Predict:
    return _per_target(task, x, lambda x, y: Ridge(alpha=penalty).fit(x, y).predict)


def _forest(task: Task, x: np.ndarray, seed: int, jobs: int | None) -> Predict:
    options = {"n_estimators": TREES, "max_features": "sqrt", "random_state": seed, "n_jobs": jobs}

    def fit(x: np.ndarray, y: np.ndarray) -> Predict:
        if task.kind == "regression":
            regressor: Predict = RandomForestRegressor(**options).fit(x, y).predict
            return regressor
        model = RandomForestClassifier(**options).fit(x, y)
        return lambda new: model.predict_proba(new)[:, 1]

    return _per_target(task, x, fit)


# -- beside the runs ----------------------------------------------------------------------------------------------


def compare(cells: Sequence[RunSpec], records: Sequence[Mapping[str, Any]], data_dir: Path, jobs: int | None = None,
            say: Callable[[str], None] = print) -> list[list[str]]:  # fmt: skip
    """Rows (data set, method, valid, test) with mean +- std (n): the finished runs, and references on their splits.

    Raises UsageError if the split of a run differs from the one that is made here.
    """
    finished = {record["run_id"]: record for record in records if record["status"] == "finished"}
    groups: dict[str, dict[str, list[dict[str, float]]]] = {}
    done: dict[tuple[Any, ...], dict[str, Any]] = {}
    for cell in cells:
        key = (cell.labels["dataset"], cell.labels["seed"], cell.labels["split_seed"])
        if key not in done:
            done[key] = scores(cell.config, data_dir, jobs)
            say(f"{key[0]}, seed {key[1]}: " + ", ".join(f"{name} {done[key][name]['test']:.3f}" for name in NAMES))
            for name in NAMES:
                groups.setdefault(key[0], {}).setdefault(name, []).append(done[key][name])
        if record := finished.get(cell.run_id):
            _check_split(record, done[key]["split_sha256"])
            name = "-".join(cell.labels[part] for part in ("model", "base", "optimizer"))
            metric = record["metric"]["name"]
            found = {part: record["metrics"].get(f"{part}/{metric}") or float("nan") for part in ("valid", "test")}
            groups[key[0]].setdefault(name, []).append(found)
    return [
        [dataset, name, *(_mean([found[part] for found in values]) for part in ("valid", "test"))]
        for dataset, methods in groups.items()
        for name, values in methods.items()
    ]


def _mean(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3f}{spread} ({len(values)})"


def _check_split(record: Mapping[str, Any], expected: str) -> None:
    if record["data"]["split_sha256"] != expected:
        raise UsageError(
            f"{record['run_id']} was made on another split than its configuration makes here. Compare where its data "
            "are (SAM_BENCH_DATA), or move the run away and make it again."
        )

"""Made-up records in the exact format of real ones, for the tests of everything that reads records."""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path

from sam_bench.store import added, studies
from sam_bench.store.folder import RunDirectory
from sam_bench.store.identity import run_id
from sam_bench.store.plain_json import as_json_with_checksum

PASSES = {"erm": 1.0, "sam": 2.0, "looksam": 1.2, "ae_sam": 1.5, "graphsam": 1.04, "vsam": 1.6}
SHARE = {"erm": 0.0, "sam": 1.0, "looksam": 0.2, "ae_sam": 0.5, "graphsam": 0.04, "vsam": 0.6}
GAIN = {"erm": 0.0, "sam": 0.05, "looksam": 0.04, "ae_sam": 0.045, "graphsam": 0.03, "vsam": -0.06}


def make_record(optimizer="sam", seed=0, dataset="bbbp", model="grover", base="adam", epochs=5, **changes) -> dict:
    """One finished record; `changes` replace its top-level entries."""
    draw = random.Random(f"{dataset} {model} {base} {seed}")
    own = random.Random(f"{dataset} {model} {base} {seed} {optimizer}")
    passes, regression = PASSES.get(optimizer, 2.0), dataset in ("esol", "quickstart")
    name = "rmse" if regression else "roc_auc"
    value = (1.0 if regression else 0.8) + draw.gauss(0, 0.03) + own.gauss(0, 0.004)
    value += (-1 if regression else 1) * GAIN.get(optimizer, 0.02)
    labels = {"dataset": dataset, "model": model, "base": base, "optimizer": optimizer, "seed": seed, "split_seed": 0}
    config = {
        "dataset": {"name": dataset, "metric": name},
        "model": {"_target_": f"sam_bench.models.{model}.Model", "hidden_size": 64},
        "base": {"_target_": f"torch.optim.{base}", "lr": 0.001},
        "optimizer": {"_target_": f"sam_bench.optim.{optimizer}", "rho": 0.05},
        "train": {"epochs": epochs, "batch_size": 32, "max_steps": None, "schedule": "cosine"},
        "seed": seed,
        "split_seed": 0,
        "device": "cpu",
    }
    steps = epochs * 25
    seconds = 0.8 * epochs * passes + own.random() / 10
    record = {
        "schema": 2,
        "run_id": run_id(labels, config),
        "status": "finished",
        "short": False,
        "experiment": "fabricated",
        "labels": labels,
        "config": config,
        "metric": {"name": name, "higher_is_better": not regression},
        "metrics": {f"test/{name}": value, f"valid/{name}": value + 0.01, "train/loss": 0.1},
        "best_epoch": epochs,
        "epochs": epochs,
        "steps": steps,
        "samples": steps * 32,
        "parameters": 123456,
        "grad_evals": round(steps * passes),
        "grad_evals_per_step": passes,
        "sam_fraction": SHARE.get(optimizer, 1.0),
        "skipped_steps": 0,
        "train_seconds": seconds,
        "eval_seconds": 1.2,
        "setup_seconds": 3.4,
        "throughput": steps * 32 / seconds,
        "peak_memory_bytes": 300 * 2**20,
        "data": {
            "sha256": "d" * 64,
            "split_sha256": "5" * 64,
            "verified": True,
            "notes": [],
            "sizes": {"train": 800, "valid": 100, "test": 100},
        },
        "provenance": {
            "commit": "0123456789abcdef0123456789abcdef01234567",
            "dirty": False,
            "versions": {"torch": "2.13.0", "python": "3.12.0"},
            "hardware": {"device": "cpu", "name": "Some CPU", "cores": 2, "threads": 1, "memory_bytes": 2**34},
            "started": "2026-01-01T00:00:00+00:00",
            "finished": "2026-01-01T00:00:10+00:00",
            "resumed": 0,
        },
    }
    return {**record, **changes}


def of_cell(cell, **changes) -> dict:
    """A made-up record of a cell that was really planned."""
    like = make_record(cell.labels["optimizer"], cell.labels["seed"])
    same = {"run_id": cell.run_id, "labels": dict(cell.labels), "config": dict(cell.config)}
    return {**like, **same, "overrides": list(cell.overrides), "experiment": cell.experiment, **changes}


def make_curve(record: dict) -> list[dict]:
    """A learning curve that ends at the record's valid metric."""
    name, epochs = record["metric"]["name"], record["epochs"]
    end = record["metrics"][f"valid/{name}"]
    rows = []
    for epoch in range(1, epochs + 1):
        done = epoch / epochs
        rows.append(
            {
                "epoch": epoch,
                "step": round(record["steps"] * done),
                "grad_evals": round(record["grad_evals"] * done),
                "train_seconds": record["train_seconds"] * done,
                "lr": 0.001 * (1 - done),
                "sam_fraction": record["sam_fraction"],
                "train/loss": math.exp(-2 * done),
                f"valid/{name}": end * (1 + (0.2 if not record["metric"]["higher_is_better"] else -0.2) * (1 - done)),
            }
        )
    return rows


def failed(record: dict, message="the loss is not a number\nsecond line") -> dict:
    """The record of the same run, had it failed."""
    error = {"type": "FloatingPointError", "message": message, "traceback": "Traceback ...", "step": 12}
    return {**record, "status": "failed", "metrics": {}, "error": error}


def write(results_dir: Path, record: dict) -> Path:
    """Put one record into a results folder, the way a run does."""
    run = RunDirectory(results_dir, record["run_id"])
    assert run.claim()
    if record["status"] == "failed":
        return run.fail(record["error"], record)
    return run.finish(record, make_curve(record))


SETTINGS = {
    "sharpness": {"samples": 512, "m": 32, "rho": 0.05, "ascent_steps": 1, "tolerance": 0.001, "products": 100,
                  "probes": 16, "directions": 16, "seed": 0},
    "landscape": {"samples": 512, "m": 32, "points": 5, "span": 1.0, "seed": 0},
    "gradients": {"every": 7, "rho": 0.05},
}  # fmt: skip


def make_added(record: dict, kind: str) -> dict:
    """What `sam-bench sharpness` would add to a finished run."""
    draw = random.Random(f"{kind} {record['run_id']}")
    sharp = (0.5 if record["labels"]["optimizer"] == "sam" else 1.0) * draw.uniform(0.9, 1.1)
    subset = {"split": "train", "n": 512, "of": 800, "sha256": "a" * 64}
    head = {"kind": kind, "run_id": record["run_id"], "labels": record["labels"], "settings": SETTINGS[kind],
            "weights_sha256": "b" * 64, "data": {key: record["data"][key] for key in ("sha256", "split_sha256")},
            "subset": subset, "mode": "eval", "dtype": "float64"}  # fmt: skip
    if kind == "gradients":
        steps = [step for step in range(record["steps"]) if step % 7 < 2]
        names = ("norm_g", "norm_g_s", "norm_direction", "cos_g", "cos_g_s", "cos_g_after_g_s", "cos_direction_g_s")
        rows = {name: [draw.uniform(0.2, 0.9) for _ in steps] for name in names}
        rows["cos_g"][0] = None
        return {**head, "steps": record["steps"], "same_weights": True,
                "rows": {"step": steps, "epoch": [step / 25 for step in steps], **rows}}  # fmt: skip
    if kind == "landscape":
        axis = [-1.0, -0.5, 0.0, 0.5, 1.0]
        return {**head, "axis": axis, "losses": [[0.1 + sharp * (a * a + b * b) for a in axis] for b in axis]}
    return {
        **head,
        "largest_eigenvalue": {"value": 30 * sharp, "residual": 0.01, "products": 12, "converged": True},
        "trace": {"mean": 300 * sharp, "std": 40.0, "n": 16, "standard_error": 10.0, "converged": True},
        "m_sharpness": {"mean": 0.1 * sharp, "std": 0.01, "n": 16},
        "ball": {"mean": 5e-6 * sharp, "std": 1e-6, "n": 16},
        "gap": {"loss": 0.1 * sharp + draw.gauss(0, 0.01), "metric": 0.02 * sharp, "train/loss": 0.1},
    }


def write_added(results_dir: Path, record: dict, kind: str, **changes) -> Path:
    """Put an added record beside a run's."""
    content = make_added(record, kind) | changes
    path = added.place(results_dir, kind, record["run_id"], content["settings"], content["weights_sha256"])
    assert added.write(path, content)
    return path


def write_plainly(results_dir: Path, record: dict) -> Path:
    """The same without leases and syncs, for thousands of records."""
    folder = Path(results_dir) / "runs" / record["run_id"]
    folder.mkdir(parents=True)
    (folder / "record.json").write_bytes(as_json_with_checksum(record))
    return folder


def edit(file: Path, change: Callable[[dict], object], *, sealed: bool = True) -> None:
    """Edit a stored record by hand; `sealed`: with a new checksum, as only somebody who means it would."""
    content = json.loads(file.read_bytes())
    change(content)
    file.write_bytes(as_json_with_checksum(content) if sealed else json.dumps(content).encode())


def grid(optimizers=("erm", "sam", "looksam"), seeds=range(6), datasets=("bbbp",), **options) -> list[dict]:
    """The records of a whole experiment, in its order."""
    return [
        make_record(optimizer, seed, dataset, **options)
        for dataset in datasets
        for optimizer in optimizers
        for seed in seeds
    ]


TUNING_SEEDS = (1000, 1001)
SHARED = {
    "base.lr": {"low": 1e-4, "high": 1e-2, "log": True, "source": "ours"},
}
OWN = {"optimizer.rho": {"low": 1e-4, "high": 0.1, "log": True, "source": "ours"}}


def make_tuning(record: dict, trials=4, study="made_up", diverged=(), **changes) -> studies.Tuning:
    """The study of the arm of a record: the first trial is the best one, those in `diverged` have no value."""
    labels = {key: str(record["labels"][key]) for key in studies.NAMES}
    space = SHARED | ({} if labels["optimizer"] == "erm" else OWN)
    higher, name = record["metric"]["higher_is_better"], record["metric"]["name"]
    best = record["metrics"][f"valid/{name}"]
    made = []
    for number in range(trials):
        values = {key: float(f"{0.001 * (number + 1) ** 0.5:.4g}") for key in space}
        worse = best * (1 - 0.1 * number if higher else 1 + 0.1 * number)
        scores = {seed: None if number in diverged else worse for seed in TUNING_SEEDS}
        made.append(studies.Trial(values, scores, 100 * (number + 1)))
    given = dict(
        study=study, experiment="fabricated", overrides=[], labels=labels, metric=name, higher_is_better=higher,
        recipe=studies.recipe(record["config"], list(space)), sampler="quasi-random", pruned=False,
        seeds=list(TUNING_SEEDS), space=space, trials=made,
    )  # fmt: skip
    return studies.Tuning(**(given | changes))


def take(record: dict, tuning: studies.Tuning) -> dict:
    """The same run with the winner's values."""
    record = json.loads(json.dumps(record))
    for key, value in tuning.winner.values.items():
        group, _, option = key.partition(".")
        record["config"][group][option] = value
    record["config"]["tuned"] = tuning.mark
    record["run_id"] = run_id(record["labels"], record["config"])
    return record


def tune(results_dir: Path, records: list[dict], study="made_up", **options) -> list[dict]:
    """These records as final runs of a study, whose files are written."""
    tuned = []
    arms: dict[tuple, studies.Tuning] = {}
    for record in records:
        name = tuple(record["labels"][key] for key in studies.NAMES)
        if name not in arms:
            arms[name] = make_tuning(record, study=study, **options)
            studies.write(arms[name], Path(results_dir) / "tuned" / study)
        tuned.append(take(record, arms[name]))
    return tuned

"""Measurements on a finished run: sharpness, a loss landscape, successive gradients."""

import contextlib
import datetime
import hashlib
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from sam_bench.api import RunSpec
from sam_bench.errors import UsageError
from sam_bench.sharpness import hessian, landscape, watched
from sam_bench.sharpness.surface import Surface
from sam_bench.store import added
from sam_bench.store.disk import file_checksum
from sam_bench.store.folder import RunDirectory
from sam_bench.store.record import read_record
from sam_bench.training import precision, provenance, seeding, threads
from sam_bench.training.evaluate import evaluate
from sam_bench.training.life import build, build_trainer, pick_device

# The settings that each kind of measurement depends on.
SETTINGS = {
    "sharpness": ("samples", "m", "rho", "ascent_steps", "tolerance", "products", "probes", "directions", "seed"),
    "landscape": ("samples", "m", "points", "span", "seed"),
    "gradients": ("every", "rho"),
}
TRACE_TOLERANCE = 0.1  # relative standard error below which a trace counts as converged


@dataclass(frozen=True)
class Finished:
    """A finished run that still has the weights of its best epoch."""

    cell: RunSpec
    record: Mapping
    weights: Path
    weights_sha256: str

    @property
    def device(self) -> torch.device:
        """The device to measure on."""
        return pick_device(self.cell.config["device"])


def finished(cell: RunSpec, results: Path) -> Finished | None:
    """The cell's run if it is finished and its best weights exist.

    Raises UsageError if its record cannot be used, or if the weights are not those that the run wrote.
    """
    folder = RunDirectory(results, cell.run_id).final
    weights = folder / "best.pt"
    if not os.path.lexists(weights):
        return None
    record, found = read_record(folder), file_checksum(weights)
    if found != record.get("files", {}).get("best.pt"):
        raise UsageError(
            f"{weights} is not what the run wrote (its checksum is not the record's): nothing is measured on it. Move "
            f"{folder} away and make the run again."
        )
    return Finished(cell, record, weights, found)


def settings_of(kind: str, options: Mapping, cell: RunSpec) -> dict:
    """What a measurement depends on; m is the run's own batch size unless given. Raises UsageError."""
    chosen = {name: options[name] for name in SETTINGS[kind]}
    if "m" in chosen:
        chosen["m"] = chosen["m"] or cell.config["train"]["batch_size"]
    for name, value in chosen.items():
        if value < 0 or (value == 0 and name != "seed"):
            raise UsageError(f"{name}={value}: it must be positive.")
    return chosen


def measure(kind: str, found: Finished, settings: Mapping, results: Path) -> tuple[Path, bool]:
    """The added record of this kind: its path, and whether this call made it or it existed before.

    Raises UsageError if the data are not those that the run was trained on.
    """
    path = added.place(results, kind, found.cell.run_id, settings, found.weights_sha256)
    if path.exists():
        return path, False
    begin, started = time.perf_counter(), datetime.datetime.now(datetime.UTC)
    # Sums depend on the number of threads, and more of them than the run had would wait for each other.
    with threads.using(found.record["provenance"]["hardware"].get("threads")):
        content = {"sharpness": _sharpness, "landscape": _landscape, "gradients": _gradients}[kind](found, settings)
        made = {
            **provenance.code(),
            "versions": provenance.versions(),
            "hardware": provenance.hardware(found.device),
            "started": started.isoformat(timespec="seconds"),
        }
    head = {"kind": kind, "run_id": found.cell.run_id, "labels": dict(found.cell.labels), "settings": dict(settings)}
    head |= {"weights_sha256": found.weights_sha256}
    head |= {"data": {key: found.record["data"][key] for key in ("sha256", "split_sha256")}}
    seconds = round(time.perf_counter() - begin, 3)
    return path, added.write(path, {**head, **content, "seconds": seconds, "provenance": made})


def _check_data(task, found: Finished) -> None:
    theirs = found.record["data"]
    if (task.data_sha256, task.split_sha256) != (theirs["sha256"], theirs["split_sha256"]):
        raise UsageError(
            f"{task.name}: other data or another split than {found.cell.run_id} was trained on. Measure where those "
            "data are (SAM_BENCH_DATA), or move the run away and make it again."
        )


def _surface(found: Finished, settings: Mapping) -> tuple[Surface, dict, object, torch.nn.Module]:
    """The training loss on a fixed subset of the train split at the best weights, and a description of the subset."""
    device, config = found.device, found.cell.config
    task, model = build(found.cell, device)
    _check_data(task, found)
    model.load_state_dict(torch.load(found.weights, map_location=device, weights_only=True))
    train, m = task.splits["train"], settings["m"]
    generator = torch.Generator().manual_seed(seeding.derive(settings["seed"], "subset"))
    chosen = train[torch.randperm(len(train), generator=generator)[: settings["samples"]]]
    smoothing = config["train"]["label_smoothing"]

    def loss(network: torch.nn.Module, batch) -> torch.Tensor:
        return task.loss(network(batch), batch, getattr(network, "penalty", None), smoothing)

    surface = Surface(model, [task.collate(part) for part in chosen.split(m)], loss)
    digest = hashlib.sha256(chosen.sort().values.numpy().tobytes()).hexdigest()
    where = {"split": "train", "n": len(chosen), "of": len(train), "sha256": digest}
    about = {"subset": where, "mode": "eval", "augmented": False, "dtype": "float64", "parameters": len(surface)}
    return surface, about, task, model


def _sharpness(found: Finished, settings: Mapping) -> dict:
    surface, about, task, model = _surface(found, settings)
    draws = {
        what: torch.Generator().manual_seed(seeding.derive(settings["seed"], what))
        for what in ("eigenvalue", "trace", "ball")
    }
    start = torch.randn(len(surface), generator=draws["eigenvalue"], dtype=torch.float64).to(surface.weights)
    top = hessian.largest_eigenvalue(surface.product, start, tolerance=settings["tolerance"], most=settings["products"])
    traces = hessian.trace_samples(surface.product, surface.weights, settings["probes"], draws["trace"])
    full = [batch for batch in surface.batches if len(batch) == settings["m"]] or surface.batches
    rises = hessian.batch_rises(surface, full, settings["rho"], settings["ascent_steps"])
    ball = hessian.ball_rises(surface, settings["rho"], settings["directions"], draws["ball"])
    return {
        **about,
        "loss": surface.loss(),
        "gradient_norm": surface.gradient().norm().item(),
        "weight_norm": surface.weights.norm().item(),
        "largest_eigenvalue": vars(top),
        "trace": _trace(traces),
        "m_sharpness": _spread(rises),
        "ball": _spread(ball),
        "gap": _gap(task, model, found.record),
    }


def _spread(values: torch.Tensor) -> dict:
    """Mean, sample standard deviation and number."""
    spread = values.std().item() if len(values) > 1 else math.nan
    return {"mean": values.mean().item(), "std": spread, "n": len(values)}


def _trace(values: torch.Tensor) -> dict:
    """The estimate, its standard error, and whether the error is small relative to the estimate."""
    found = _spread(values)
    error = found["std"] / len(values) ** 0.5
    return {**found, "standard_error": error, "converged": error <= TRACE_TOLERANCE * abs(found["mean"])}


def _gap(task, model, record: Mapping) -> dict:
    """Test minus train, for loss and metric; larger if the test split is worse. Test values are the record's own."""
    size = record["config"]["train"]["eval_batch_size"]
    # in fp32 for any precision of the run; this reads the train split once more, but not the test split
    train, _ = evaluate(model, task, "train", batch_size=size, autocast=contextlib.nullcontext)
    name, sign = record["metric"]["name"], -1 if record["metric"]["higher_is_better"] else 1
    test = {key: record["metrics"].get(key) for key in ("test/loss", f"test/{name}")}
    known = test[f"test/{name}"] is not None
    return {
        **train,
        "loss": None if test["test/loss"] is None else test["test/loss"] - train["train/loss"],
        "metric": sign * (test[f"test/{name}"] - train[f"train/{name}"]) if known else None,
    }


def _landscape(found: Finished, settings: Mapping) -> dict:
    surface, about, *_ = _surface(found, settings)
    generator = torch.Generator().manual_seed(seeding.derive(settings["seed"], "plane"))
    axis, losses = landscape.plane(surface, settings["points"], settings["span"], generator)
    return {**about, "axis": axis, "losses": losses}


def _gradients(found: Finished, settings: Mapping) -> dict:
    config = found.cell.config
    if config["train"]["budget"] == "seconds":
        raise UsageError("train.budget=seconds depends on the clock: such a run cannot be trained again step by step.")
    how = precision.of_record(found.record)
    trainer = build_trainer(found.cell, found.device, how, watched.WatchedTrainer)
    assert isinstance(trainer, watched.WatchedTrainer)
    trainer.every, trainer.rho = settings["every"], settings["rho"]
    _check_data(trainer.task, found)
    trainer.fit(save=_nothing, report=_nothing, stop=lambda: False, log=_nothing)
    stored = torch.load(found.weights, map_location=found.device, weights_only=True)
    same = all(torch.equal(value, stored[name]) for name, value in trainer.model.state_dict().items())
    rows = {name: [row[name] for row in trainer.rows] for name in watched.COLUMNS}
    return {"same_weights": same, "steps": trainer.step, "rows": rows}


def _nothing(*_) -> None:
    """Do nothing: the watched run writes no checkpoint and reports to nobody."""

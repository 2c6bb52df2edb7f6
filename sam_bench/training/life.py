"""The life of one run: build, claim, resume, train, test once, record."""

import contextlib
import datetime
import io
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sam_bench import metrics
from sam_bench.api import Logger, Record, RunSpec
from sam_bench.config.build import build_logger, build_model, build_optimizer, build_schedule, build_task, own_code
from sam_bench.datasets.task import Task
from sam_bench.errors import UsageError
from sam_bench.loggers.none import NoLogger
from sam_bench.options.run import Train
from sam_bench.store import places
from sam_bench.store.anonymous import config_without_folders, overrides_without_folders
from sam_bench.store.disk import atomic_write
from sam_bench.store.folder import RunDirectory
from sam_bench.store.record import read_record
from sam_bench.training import checkpoint, compiled, failure, precision, processes, provenance, seeding, threads
from sam_bench.training.loop import Stopped, Trainer
from sam_bench.training.memory import keep_freed
from sam_bench.training.options import steps_per_epoch
from sam_bench.training.precision import Arithmetic

Report = Callable[[dict[str, Any]], None]  # gets step, steps, share, epoch, metric and value


class Busy(UsageError):
    """Another process is working on this run."""


def pick_device(name: str) -> torch.device:
    """The device that `auto`, `cpu` or `cuda[:n]` means here; raises UsageError if there is no such device."""
    name = processes.device_of(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and not (torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()):
        raise UsageError(f"device={name}: torch {torch.__version__} sees no such GPU. Try device=cpu or device=auto.")
    return device


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def build(cell: RunSpec, device: torch.device) -> tuple[Task, nn.Module]:
    """Task and model of a cell, built in an order that depends on the seed alone."""
    config = cell.config
    precision.exact_float32()
    seeding.seed_everything(config["seed"], deterministic=config["deterministic"])
    task = processes.first_before_others(lambda: build_task(config, places.data_dir())).to(device)
    # Featurising may have drawn random numbers, or not if it used a cache. So the model starts from the seed again.
    seeding.seed_everything(config["seed"], deterministic=config["deterministic"])
    return task, build_model(config, task).to(device)


def build_trainer(cell: RunSpec, device: torch.device, how: Arithmetic, kind: type[Trainer] = Trainer) -> Trainer:
    """Task, model, method and loop of a cell, in the precision of `how`; compiles the model if `how` says so."""
    config = cell.config
    task, model = build(cell, device)
    options, samples = Train(**config["train"]), len(task.splits["train"])
    size = compiled.full_size(samples, options.batch_size)
    compiler = partial(compiled.Compiled, size=size, deterministic=config["deterministic"])
    parallel, notes = processes.parallel(model, config["seed"], compiler if how.compiled else None)
    per_epoch = steps_per_epoch(samples, options.batch_size, options.drop_last)
    factor = 2 if options.budget == "grad_evals" else 1
    scaler = torch.amp.GradScaler(device.type) if how.precision == "fp16" else None
    optimizer = build_optimizer(
        config, parallel, total_steps=factor * per_epoch * options.epochs, steps_per_epoch=per_epoch,
        clip_norm=options.clip_norm, scaler=scaler,
    )  # fmt: skip
    if processes.count() > 1 and optimizer.chooses_samples:
        raise UsageError(f"{type(optimizer).__name__} chooses among the samples of a batch: run it in one process.")
    trainer = kind(task, model, optimizer, build_schedule(config), options, seed=config["seed"],
                   precision=how.precision, scaler=scaler, device=device, parallel=parallel)  # fmt: skip
    trainer.notes.extend(notes + precision.remarks(config, device, how))
    if how.compiled:
        compiled.warm_up(trainer)
    return trainer


def _head(cell: RunSpec, device: torch.device, how: Arithmetic) -> dict[str, Any]:
    """The part of a record that is known before anything is built."""
    return {
        "run_id": cell.run_id,
        "experiment": cell.experiment,
        "labels": dict(cell.labels),
        "config": config_without_folders(cell.config),
        "overrides": overrides_without_folders(cell.overrides),
        "short": cell.config["train"]["max_steps"] is not None,
        "provenance": {
            **provenance.code(),
            "versions": provenance.versions(),
            "hardware": provenance.hardware(device),
            **asdict(how),
            **({"own_code": own} if (own := own_code(cell.config)) else {}),
            "started": _now(),
        },
    }


def _built(trainer: Trainer) -> dict[str, Any]:
    """The part of a record about the model and the data."""
    task = trainer.task
    return {
        "metric": {"name": task.metric, "higher_is_better": metrics.HIGHER_IS_BETTER[task.metric]},
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "data": {
            "sha256": task.data_sha256,
            "split_sha256": task.split_sha256,
            "verified": task.verified,
            "notes": list(task.notes),
            "sizes": {name: len(index) for name, index in task.splits.items()},
        },
    }


def _spent(trainer: Trainer) -> dict[str, Any]:
    """What the run has cost so far."""
    memory, clock = trainer.optimizer.memory, trainer.clock
    return {
        "best_epoch": trainer.best["epoch"],
        "epochs": trainer.epoch,
        "steps": trainer.step,
        "samples": trainer.samples,
        "grad_evals": memory["grad_evals"],
        "grad_evals_per_step": memory["grad_evals"] / max(1, trainer.step),
        "sam_fraction": trainer.optimizer.sam_fraction,
        "skipped_steps": memory["skipped"],
        **{f"{purpose}_seconds": round(seconds, 4) for purpose, seconds in clock.seconds.items()},
        "throughput": clock.throughput,
        "peak_memory_bytes": provenance.peak_memory_bytes(trainer.device),
    }


def _train(directory: RunDirectory, head: dict[str, Any], trainer: Trainer, state: Mapping[str, Any], logger: Logger,
           report: Report, stop: Callable[[], bool]) -> None:  # fmt: skip
    """Train from the checkpoint `state`, or from the start, with checkpoints and heartbeats; rank 0 writes them."""
    first = processes.rank() == 0
    started = state.get("started", head["provenance"]["started"])
    head["provenance"] |= {"started": started, "resumed": state.get("resumed", -1) + 1}

    def save(training: dict[str, Any]) -> None:
        if not first:
            return
        made = head["provenance"]
        extra = {"started": made["started"], "resumed": made["resumed"]}
        extra["arithmetic"] = {"precision": made["precision"], "compiled": made["compiled"]}
        extra["threads"] = made["hardware"]["threads"]
        checkpoint.save(directory.working, {"run_id": directory.run_id, **extra, "training": training})

    def tell(info: dict[str, Any]) -> None:
        if first:
            directory.heartbeat(info)
            report(info)

    if state:
        trainer.load_state_dict(state["training"])
    logger.start(head)
    trainer.fit(save=save, report=tell, stop=stop, log=logger.log)


def _finish(directory: RunDirectory, head: dict[str, Any], trainer: Trainer) -> Record:
    """Read the test split once, with the best epoch's weights (a trial does not read it), and write the record."""
    test: dict[str, float] = {}
    notes: list[str] = []
    if head["config"].get("test", True):
        with trainer.clock.running("eval"):
            test, notes = trainer.evaluate("test")
    head["data"]["notes"] += [note for note in (*trainer.notes, *notes) if note not in head["data"]["notes"]]
    best = trainer.curve[trainer.best["epoch"] - 1]
    scores = {**trainer.best["metrics"], **test, "train/loss": best["train/loss"]}
    head["provenance"]["finished"] = _now()

    def write() -> Record:
        weights = io.BytesIO()
        torch.save(trainer.best["model"], weights)
        atomic_write(directory.working / "best.pt", weights.getvalue())
        directory.finish({**head, "metrics": scores, **_spent(trainer)}, trainer.curve)
        return read_record(directory.final)

    return processes.from_first(write)


def _fail(directory: RunDirectory, head: dict[str, Any], trainer: Trainer | None, error: Exception) -> None:
    described = failure.described(error, getattr(error, "step", trainer.step if trainer else 0))
    head["provenance"]["finished"] = _now()
    spent, curve = (_spent(trainer), trainer.curve) if trainer else ({}, ())
    directory.fail(described, {**head, "metrics": {}, **spent}, curve)


def execute(cell: RunSpec, results: Path, *, report: Report = lambda info: None,
            stop: Callable[[], bool] = lambda: False) -> Record:  # fmt: skip
    """The record of `cell`: read if the run is finished, else made, from its checkpoint if there is one.

    `report` gets the progress now and then; `stop` may ask to end early. Raises UsageError (nothing is written), Busy
    if another process works on the run, Stopped after writing a checkpoint, or the error that made the run fail, after
    recording it.
    """
    directory, first = RunDirectory(results, cell.run_id), processes.rank() == 0
    if record := processes.from_first(lambda: _finished(directory)):
        return record
    device = pick_device(cell.config["device"])
    how = precision.choose(cell.config, device)
    threads.use(threads.of_config(cell.config))
    keep_freed()
    if record := processes.from_first(lambda: _claim(directory)):
        return record
    with directory.alive() if first else contextlib.nullcontext():
        record, logger = _make(cell, directory, device, how, report, stop)
    logger.finish(record)
    with contextlib.suppress(OSError):  # the log's disk may be full; the record is written
        if first:
            sys.stderr.writelines(f"note: {note}\n" for note in record["data"]["notes"])
    return record


def _finished(directory: RunDirectory) -> Record | None:
    return read_record(directory.final) if directory.finished else None


def _claim(directory: RunDirectory) -> Record | None:
    """Claim this run; returns its record if another process has finished it meanwhile. Raises Busy."""
    if not directory.claim() and not directory.finished:
        raise Busy(f"another process is at work on {directory.run_id}; `sam-bench status` shows how far it is.")
    return _finished(directory)


def _make(cell: RunSpec, directory: RunDirectory, device: torch.device, how: Arithmetic, report: Report,
          stop: Callable[[], bool]) -> tuple[Record, Logger]:  # fmt: skip
    """Build, train and record a claimed run; returns its record and its logger. Only rank 0 writes."""
    head, first = _head(cell, device, how), processes.rank() == 0
    trainer: Trainer | None = None
    try:
        state = processes.from_first(lambda: checkpoint.load(directory.working, directory.run_id)) or {}
        how = precision.resumed(state, how, device)
        head["provenance"] |= asdict(how)
        head["provenance"]["hardware"]["threads"] = threads.resumed(state, cell.config)
        trainer = build_trainer(cell, device, how)
        head["provenance"]["tf32"] = precision.tf32(device)
        head |= _built(trainer)
        logger: Logger = build_logger(cell.config) if first else NoLogger()
        _train(directory, head, trainer, state, logger, report, stop)
        return _finish(directory, head, trainer), logger
    except (Stopped, UsageError):
        raise
    except Exception as error:
        if processes.lost(error):
            raise processes.RankLost("another process of this run is gone; the same command continues") from error
        if advice := compiled.advice(error):
            raise advice from error
        if first:
            _fail(directory, head, trainer, error)
        raise
    finally:
        with contextlib.suppress(UsageError):  # on a full disk the lease stays until it is stale
            directory.release()

"""Estimate how long unfinished runs will take, from the records of finished ones."""

import heapq
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sam_bench.errors import UsageError
from sam_bench.store.record import read_record


@dataclass(frozen=True)
class Estimate:
    """Seconds that a run will take (None: unknown), and the number and kind of the records behind it."""

    seconds: float | None
    records: int = 0
    source: str = ""


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class Durations:
    """Durations of the finished runs in a results folder, read once per data set and model."""

    def __init__(self, results: Path):
        self.runs = Path(results) / "runs"
        self._read: dict[tuple[str, str], list[Mapping[str, Any]]] = {}

    def estimate(self, labels: Mapping[str, Any], config: Mapping[str, Any]) -> Estimate:
        """The median over runs of the same data set, model and method, else of any method; scaled to the epochs."""
        records = self._records(labels["dataset"], labels["model"])
        alike = [r for r in records if r["config"]["train"].get("max_steps") == config["train"].get("max_steps")]
        own = [r for r in alike if all(r["labels"][key] == labels[key] for key in ("optimizer", "base"))]
        found = own or alike
        if not found:
            return Estimate(None)
        seconds = statistics.median(_seconds(record, config) for record in found)
        return Estimate(seconds, len(found), "" if own else " of other methods")

    def _records(self, dataset: str, model: str) -> list[Mapping[str, Any]]:
        key = dataset, model
        if key not in self._read:
            self._read[key] = [
                record
                for record in readable(sorted(self.runs.glob(f"{dataset}-{model}-*[0-9a-f]")))
                if (record["labels"]["dataset"], record["labels"]["model"]) == key and "train" in record["config"]
            ]
        return self._read[key]


def readable(folders: Iterable[Path]) -> Iterable[Mapping[str, Any]]:
    """The records of finished runs in these folders; skips others."""
    for folder in folders:
        try:
            record = read_record(folder)
        except UsageError:
            continue
        if record["status"] == "finished":
            yield record


def _seconds(record: Mapping[str, Any], config: Mapping[str, Any]) -> float:
    """Duration of a run, with training and evaluation scaled to other epochs (or seconds, with that budget)."""
    ours, theirs = config["train"], record["config"]["train"]
    unit = "seconds" if ours.get("budget") == theirs.get("budget") == "seconds" else "epochs"
    wanted, had = ours.get(unit), theirs.get(unit)
    factor = wanted / had if wanted and had and ours.get("max_steps") is None else 1.0
    work = record["train_seconds"] + record.get("eval_seconds", 0.0)
    return float(factor * work + _startup(record, work))


def _startup(record: Mapping[str, Any], work: float) -> float:
    """Seconds of a run besides training and evaluation: reading data, building the model, writing the record.

    Computed from its start and end times. Those of a resumed run include a pause, so only its set-up clock counts.
    """
    setup, made = float(record.get("setup_seconds", 0.0)), record["provenance"]
    try:
        begun, ended = (datetime.fromisoformat(made[key]) for key in ("started", "finished"))
    except (KeyError, ValueError, TypeError):
        return setup
    return setup if made.get("resumed") else max(setup, (ended - begun).total_seconds() - work)


def wall_time(seconds: Sequence[float], jobs: int) -> float:
    """Seconds until the last of these runs ends, if `jobs` run at once, in this order."""
    ends = [0.0] * max(1, jobs)
    for duration in seconds:
        heapq.heappush(ends, heapq.heappop(ends) + duration)
    return max(ends)

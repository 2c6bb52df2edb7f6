"""Many runs: the records of a results folder, and how far an experiment has come."""

import csv
import io
import json
import math
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypedDict, cast

from sam_bench.api import Record
from sam_bench.errors import UsageError
from sam_bench.store import lease
from sam_bench.store.disk import Astray, need_real_folder, read_file
from sam_bench.store.heartbeat import Heartbeat, heartbeat
from sam_bench.store.owner import owner, silence
from sam_bench.store.record import CURVE_COLUMNS, read_record

ADVICE = {
    "finished": "",
    "running": "",
    "stale": "run the sweep again, it continues from the last checkpoint",
    "failed": "fix the cause, then run the sweep with --retry-failed",
    "damaged": "move its folder away, then run the sweep",
    "planned": "run the sweep",
}


class Row(TypedDict):
    """Where a run stands: see `status`."""

    run_id: str
    status: str
    detail: str
    advice: str
    heartbeat: Heartbeat | None
    heartbeat_age: float | None


def load(results_dir: Path, run_ids: Iterable[str] | None = None) -> list[Record]:
    """Records of the finished runs, and of the failed ones that never finished.

    In the order of `run_ids`, else sorted by name. Each is the content of its record.json and one more entry,
    `path`, the run's folder. Raises UsageError for the first that cannot be used, and says how many there are.
    """
    found, bad = load_readable(results_dir, run_ids)
    if bad:
        more = f" The records of {len(bad) - 1} more runs cannot be used: `sam-bench verify` lists them all."
        raise UsageError(next(iter(bad.values())) + (more if len(bad) > 1 else ""))
    return found


def load_readable(results_dir: Path, run_ids: Iterable[str] | None = None) -> tuple[list[Record], dict[str, str]]:
    """The same, but instead of an error it returns {run_id: what is wrong} for the records that cannot be used."""
    runs = Path(results_dir) / "runs"
    names = _names(runs)
    wanted = sorted({name.removesuffix(".failed") for name in names}) if run_ids is None else dict.fromkeys(run_ids)
    found: list[Record] = []
    bad: dict[str, str] = {}
    seen: dict[str, Any] = {}
    for name in wanted:
        folder = name if name in names else f"{name}.failed"
        if folder in names:
            try:
                record = _share_parts(read_record(runs / folder), seen)
            except UsageError as error:
                bad[name] = str(error)
                continue
            record["path"] = str(runs / folder)
            found.append(record)
    return found, bad


def _share_parts(record: Record, seen: dict[str, Any]) -> Record:
    """The same record, sharing equal parts of configuration and provenance with other records to save memory."""
    for part in ("config", "provenance"):
        values: dict[str, Any] = cast(dict[str, Any], record)[part]
        cast(dict[str, Any], record)[part] = {
            sys.intern(key): seen.setdefault(json.dumps(value), value) if isinstance(value, dict) else value
            for key, value in values.items()
        }
    return record


def curve(record: Record) -> list[dict[str, float]]:
    """The learning curve of a loaded record: one row per epoch; a value that is missing is NaN.

    [] if there is none. Raises UsageError for a file that is not a learning curve.
    """
    path = Path(record["path"]) / "curve.csv"
    try:
        text = read_file(path).decode()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from None
    try:
        return [_point(row) for row in csv.DictReader(io.StringIO(text, newline=""))]
    except (ValueError, TypeError, csv.Error) as error:
        raise UsageError(
            f"{path} is not a learning curve: {error}. Move that folder away and run its experiment again."
        ) from None


def _point(row: dict[str, Any]) -> dict[str, float]:
    point = {key: float(value or "nan") for key, value in row.items()}
    for name in CURVE_COLUMNS[:4]:
        if not 0 <= point.get(name, math.nan) < 2**53:
            raise ValueError(f"a row without {name}, or with {row.get(name)!a}")
    return point


def test_name(record: Record) -> str:
    """Name of a record's test metric, such as test/rmse."""
    return f"test/{record['metric']['name']}"


def score(record: Record) -> float:
    """A record's test metric; NaN if the run failed or the metric is not defined."""
    value = record["metrics"].get(test_name(record)) if record["status"] == "finished" else None
    return float("nan") if value is None else value


def status(run_ids: Iterable[str], results_dir: Path) -> list[Row]:
    """How far each run has come, in the given order.

    `status` is planned, running, stale (its process is gone), finished, failed or damaged (its record cannot be used).
    `detail` is the owner of a running one and what is strange about it, the first line of the error of a failed one, or
    what is wrong with a damaged one. `advice` is what to do, or "". `heartbeat` is the last report of a running or
    stale one (step, steps, epoch, metric, time), else None. `heartbeat_age` is the time since then (s), else None.
    """
    runs = Path(results_dir) / "runs"
    names = _names(runs, running=True)
    answers: list[Row] = []
    for name in run_ids:
        state, detail, beat = _state(runs, name, names)
        age = round(max(0.0, time.time() - beat["time"]), 1) if beat and "time" in beat else None
        answers.append({"run_id": name, "status": state, "detail": detail, "advice": ADVICE[state], "heartbeat": beat,
                        "heartbeat_age": age})  # fmt: skip
    return answers


def _state(runs: Path, name: str, names: set[str]) -> tuple[str, str, Heartbeat | None]:
    if name in names:
        try:
            read_record(runs / name)
        except UsageError as error:
            return "damaged", str(error), None
        return "finished", "", None
    if f"{name}.running" in names and (found := _unfinished(runs / f"{name}.running")):
        return found
    if f"{name}.running" in names and not os.path.lexists(runs / f"{name}.running"):  # it ended in between
        return _state(runs, name, _names(runs, running=True))
    if f"{name}.failed" in names:
        return "failed", first_line(runs / f"{name}.failed"), None
    return "planned", "", None


def _unfinished(folder: Path) -> tuple[str, str, Heartbeat | None] | None:
    """The state of a run that was started and has no record; None if there is nothing of it."""
    try:
        held, beat = lease.state(folder), heartbeat(folder)
        files = os.listdir(folder) if os.path.lexists(folder) else []
    except Astray as error:
        return "damaged", str(error), None
    except FileNotFoundError:
        return None
    if held == "live":
        return "running", "; ".join(filter(None, [owner(folder), silence(folder, lease.default_stale_after())])), beat
    if held == "stale" or any(name.startswith("checkpoint") for name in files):
        return "stale", "stopped with a checkpoint" if held == "free" else "its process is gone", beat
    return None


def first_line(folder: Path) -> str:
    """Type and first line of the error of a failed run, from its folder."""
    try:
        return error_line(read_record(folder))
    except UsageError as unreadable:
        return str(unreadable)


def error_line(record: Record) -> str:
    """Type and first line of the error of a failed run, without terminal control characters."""
    if record["status"] == "finished":
        return ""
    lines = record["error"]["message"].strip().splitlines() or ["no message"]
    line = f"{record['error']['type']}: {lines[0]}"
    return line if line.isprintable() else line.encode("unicode_escape").decode()


def names_of_runs(results_dir: Path) -> list[str]:
    """The names of all runs in a results folder, whatever came of them, sorted."""
    names = _names(Path(results_dir) / "runs", running=True)
    return sorted({name.removesuffix(".failed").removesuffix(".running") for name in names})


def _names(runs: Path, running: bool = False) -> set[str]:
    need_real_folder(runs)
    try:
        names = {path.name for path in runs.iterdir() if not path.name.startswith(".")}
    except FileNotFoundError:
        return set()
    return names if running else {name for name in names if not name.endswith(".running")}

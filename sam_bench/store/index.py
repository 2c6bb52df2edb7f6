"""Many runs: the records of a results folder, and how far an experiment has come."""

import csv
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from sam_bench.errors import UsageError
from sam_bench.store import lease
from sam_bench.store.record import read_record

ADVICE = {
    "finished": "",
    "running": "",
    "stale": "give the sweep again, it goes on from the last checkpoint",
    "failed": "mend the cause, then give the sweep with --retry-failed",
    "planned": "give the sweep",
}


def load(results_dir: Path, run_ids: Iterable[str] | None = None) -> list[dict]:
    """Records of the finished runs, and of the failed ones that never finished.

    In the order of `run_ids`, else sorted by name. Each is the content of its record.json with one entry more,
    `path`, the run's folder. Raises UsageError for a torn or foreign record.
    """
    runs = Path(results_dir) / "runs"
    names = _names(runs)
    wanted = sorted({name.removesuffix(".failed") for name in names}) if run_ids is None else dict.fromkeys(run_ids)
    found, seen = [], {}
    for name in wanted:
        folder = name if name in names else f"{name}.failed"
        if folder in names:
            found.append({**_share_parts(read_record(runs / folder), seen), "path": str(runs / folder)})
    return found


def _share_parts(record: dict, seen: dict[str, object]) -> dict:
    """The same record, in which equal parts of the configuration and the provenance are one object for all records."""
    for part in ("config", "provenance"):
        values = record.get(part) or {}
        record[part] = {
            sys.intern(key): seen.setdefault(json.dumps(value), value) if isinstance(value, dict) else value
            for key, value in values.items()
        }
    return record


def curve(record: dict) -> list[dict[str, float]]:
    """The learning curve of a loaded record: one row per epoch; a value that is missing is NaN."""
    try:
        with open(Path(record["path"]) / "curve.csv", newline="") as file:
            return [{key: float(value or "nan") for key, value in row.items()} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"{record['path']}/curve.csv is not a learning curve: {error}. Move that folder away and run its "
            "experiment again."
        ) from None


def test_name(record: dict) -> str:
    """Name of a record's test metric, such as test/rmse."""
    return f"test/{record['metric']['name']}"


def score(record: dict) -> float:
    """A record's test metric; NaN where the run failed or the metric is not defined."""
    value = record["metrics"].get(test_name(record)) if record["status"] == "finished" else None
    return float("nan") if value is None else value


def status(run_ids: Iterable[str], results_dir: Path) -> list[dict]:
    """How far each run has come, in the given order, without reading the records of finished ones.

    Each answer has `run_id`; `status`: planned, running, stale (its process is gone), finished or failed; `detail`:
    the owner of a running one, the first line of the error of a failed one; `advice`: what to do, "" for nothing;
    `heartbeat`: what a running or stale one last said of itself (step, steps, epoch, metric, time), else None;
    `heartbeat_age`: seconds since then, else None.
    """
    runs = Path(results_dir) / "runs"
    names = _names(runs, running=True)
    answers = []
    for name in run_ids:
        state, detail, beat = _state(runs, name, names)
        age = round(max(0.0, time.time() - beat["time"]), 1) if beat and "time" in beat else None
        answers.append({"run_id": name, "status": state, "detail": detail, "advice": ADVICE[state], "heartbeat": beat,
                        "heartbeat_age": age})  # fmt: skip
    return answers


def _state(runs: Path, name: str, names: set[str]) -> tuple[str, str, dict | None]:
    if name in names:
        if (runs / name / "record.json").exists():
            return "finished", "", None
        return "failed", f"{runs / name} holds no record.json: move it away", None
    if f"{name}.running" in names:
        folder = runs / f"{name}.running"
        held, beat = lease.state(folder), _heartbeat(folder)
        if held == "live":
            return "running", lease.owner(folder), beat
        if held == "stale" or any(folder.glob("checkpoint*")):
            return "stale", "stopped with a checkpoint" if held == "free" else "its process is gone", beat
        if not folder.exists():  # it ended while we looked
            return _state(runs, name, _names(runs, running=True))
    if f"{name}.failed" in names:
        return "failed", first_line(runs / f"{name}.failed"), None
    return "planned", "", None


def first_line(folder: Path) -> str:
    """Type and first line of the error of a failed run, from its folder."""
    try:
        error = read_record(folder).get("error", {})
    except UsageError as unreadable:
        return str(unreadable)
    lines = str(error.get("message", "")).strip().splitlines() or ["no message"]
    return f"{error.get('type', 'Error')}: {lines[0]}"


def _heartbeat(folder: Path) -> dict | None:
    try:
        return json.loads((folder / "heartbeat.json").read_bytes())
    except (OSError, ValueError):
        return None


def _names(runs: Path, running: bool = False) -> set[str]:
    try:
        names = {path.name for path in runs.iterdir() if not path.name.startswith(".")}
    except FileNotFoundError:
        return set()
    return names if running else {name for name in names if not name.endswith(".running")}

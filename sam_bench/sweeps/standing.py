"""The state of the cells of an experiment as text, for `sam-bench status` and `sam-bench sweep --dry-run`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sam_bench.api import RunSpec
from sam_bench.store.index import status
from sam_bench.sweeps.estimate import Durations, duration, wall_time


def describe(row: Mapping[str, Any]) -> str:
    """How far a cell is, when its last heartbeat came, and other details."""
    beat, parts = row["heartbeat"] or {}, []
    if "step" in beat:
        parts.append(f"{beat['step']}/{beat.get('steps', '?')} steps")
    if beat.get("value") is not None:
        parts.append(f"valid/{beat.get('metric', '')} {beat['value']:.4f}")
    if row["heartbeat_age"] is not None:
        parts.append(f"heartbeat {duration(row['heartbeat_age'])} ago")
    elif row["status"] == "running":
        parts.append("setting up")
    return ", ".join([*parts, *filter(None, [row["detail"]])])


def counts(rows: Sequence[Mapping[str, Any]]) -> str:
    states = [row["status"] for row in rows]
    return f"{len(rows)} cells: " + ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def dry_run(cells: Sequence[RunSpec], pending: Sequence[RunSpec], results: Path, *, jobs: int, name: str) -> int:
    """List the cells with their state, and estimate the time for those to run, `jobs` at once."""
    to_run, durations, seconds, unknown = {cell.run_id for cell in pending}, Durations(results), [], 0
    rows = {row["run_id"]: row for row in status([cell.run_id for cell in cells], results)}
    for cell in cells:
        row, told = rows[cell.run_id], ""
        if cell.run_id in to_run and row["status"] != "running":
            estimate = durations.estimate(cell.labels, cell.config)
            if estimate.seconds is None:
                unknown += 1
            else:
                seconds.append(estimate.seconds * (1.0 - (row["heartbeat"] or {}).get("share", 0.0)))
                told = f"about {duration(seconds[-1])} (from {estimate.records} runs{estimate.source})"
        word = "run " if cell.run_id in to_run else "keep"
        print(f"{word} {row['status']:9} {cell.run_id}  {told or describe(row)}".rstrip())
    print(counts(list(rows.values())))
    print(f"{len(pending)} of {len(cells)} cells to run; records in {results / 'runs'}")
    if seconds:
        rest = f", without {unknown} cells that cannot be estimated" if unknown else ""
        print(f"about {duration(wall_time(seconds, jobs))} with {jobs} at once, once the workers have started{rest}")
    elif unknown:
        print(
            "no time estimate: no run of these data sets and models has finished here; the experiment's YAML may state "
            "the expected time"
        )
    failed = sum(rows[cell.run_id]["status"] == "failed" for cell in cells if cell.run_id not in to_run)
    if failed:
        print(f"{failed} failed cells are kept: sam-bench sweep {name} --retry-failed")
    return 0

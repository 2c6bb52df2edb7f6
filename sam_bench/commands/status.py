"""`sam-bench status`."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from sam_bench.commands.chosen import Chosen, add_runs, chosen, run_ids_of, same_words
from sam_bench.commands.words import add_json, put_json
from sam_bench.store import places
from sam_bench.store.index import status as status_of
from sam_bench.sweeps.standing import counts, describe


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    status = commands.add_parser(
        "status", help="list the planned, running, stale, failed and finished runs",
        description="Lists each run with its state: planned; running, with its last heartbeat; stale (its process is "
        "gone, but its checkpoint is kept); failed, with the first line of the error; finished. Then says what to do.",
    )  # fmt: skip
    add_runs(status)
    add_json(status)
    status.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the state of each run."""
    parts = chosen(arguments)
    rows = status_of(run_ids_of(parts), places.results_dir())
    if arguments.json:
        put_json(rows, arguments.json)
        if arguments.json == "-":
            return 0
    for row in rows:
        print(f"{row['status']:9} {row['run_id']}  {describe(row)}".rstrip())
    print(counts(rows))
    _advise(rows, parts, same_words(arguments))
    return 0


def _advise(rows: Sequence[Mapping[str, Any]], parts: Sequence[Chosen], words: str) -> None:
    """Print what to do about unfinished runs."""
    states = {row["status"] for row in rows}
    makers = [part.maker for part in parts if part.maker]
    if makers and states & {"planned", "stale"}:
        print(f"run the planned and stale cells with: {' ; '.join(makers)}")
    if makers and "failed" in states:
        again = [f"{maker} --retry-failed" if " sweep " in maker else maker for maker in makers]
        print(f"fix the cause of a failure, then run the failed cells again with: {' ; '.join(again)}")
    if states == {"finished"}:
        print(f"see the result with: sam-bench table {words}")

"""`sam-bench status`."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from sam_bench.commands.words import add_experiment, add_filter, add_json, need_bench, put_json, same_words
from sam_bench.store import places
from sam_bench.store.index import status as status_of
from sam_bench.sweeps.standing import counts, describe


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    status = commands.add_parser(
        "status", help="planned, finished, running, stale and failed cells of an experiment",
        description="Lists each cell: finished; running, with its last heartbeat; stale (its process is gone, its "
        "checkpoint is kept); failed, with the first line of the error; planned. Then says what to do.",
    )  # fmt: skip
    add_experiment(status)
    add_filter(status)
    add_json(status)
    status.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Where each cell of an experiment stands."""
    need_bench()
    from sam_bench.config.compose import plan
    from sam_bench.sweeps.filters import matching

    cells = matching(plan(arguments.experiment, arguments.overrides), arguments.filter)
    rows = status_of([cell.run_id for cell in cells], places.results_dir())
    if arguments.json:
        put_json(rows, arguments.json)
        if arguments.json == "-":
            return 0
    for row in rows:
        print(f"{row['status']:9} {row['run_id']}  {describe(row)}".rstrip())
    print(counts(rows))
    _advise(rows, same_words(arguments))
    return 0


def _advise(rows: Sequence[Mapping[str, Any]], name: str) -> None:
    """What to do about the cells that are not finished."""
    states = {row["status"] for row in rows}
    if states & {"planned", "stale"}:
        print(f"planned and stale cells are made by: sam-bench sweep {name}")
    if "failed" in states:
        print(f"when the cause is mended, failed cells are tried again by: sam-bench sweep {name} --retry-failed")
    if states == {"finished"}:
        print(f"see the result with: sam-bench table {name.partition(' --filter')[0]}")

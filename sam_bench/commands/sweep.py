"""`sam-bench sweep` and `status`."""

import argparse
import json

from sam_bench import paths
from sam_bench.commands.experiments import need_bench


def sweep(arguments: argparse.Namespace) -> int:
    """A whole experiment, then its table."""
    need_bench()
    from rich.console import Console

    from sam_bench import sweep as sweeping
    from sam_bench.run import plan

    sweeping.check_options(arguments.jobs, arguments.per_gpu, arguments.retries)
    results, console = paths.results_dir(), Console()
    cells = plan(arguments.experiment, arguments.overrides)
    pending = sweeping.pending(cells, results, retry_failed=arguments.retry_failed)
    if arguments.dry_run:
        return _dry_run(cells, pending, results)
    if not pending:
        return _conclude(arguments, cells, sweeping.Outcome(), results, console)
    from sam_bench.display import Display

    done = len(cells) - len(pending)
    console.print(f"{arguments.experiment}: {len(cells)} cells, {done} done before; records go to {results / 'runs'}")
    with Display(arguments.experiment, len(cells), done, results, console) as display:
        worker = sweeping.Sweep(pending, results, jobs=arguments.jobs, per_gpu=arguments.per_gpu,
                                retries=arguments.retries, show=display)  # fmt: skip
        outcome = worker.run()
    if worker.interrupts:
        console.print(f"stopped; `sam-bench sweep {arguments.experiment}` goes on where it was")
        return 130
    return _conclude(arguments, cells, outcome, results, console)


def _dry_run(cells, pending, results) -> int:
    waiting = {cell.run_id for cell in pending}
    for cell in cells:
        print("run   " if cell.run_id in waiting else "keep  ", cell.run_id)
    print(f"{len(pending)} of {len(cells)} cells to run; records in {results / 'runs'}")
    return 0


def _conclude(arguments, cells, outcome, results, console) -> int:
    """The table of what is there, what went wrong, and what to do next."""
    from sam_bench.results.record import RunDirectory
    from sam_bench.results.store import load
    from sam_bench.results.tables import table

    records = load(results, [cell.run_id for cell in cells])
    if records:
        print(table(records, format="terminal"))
    failed = [c.run_id for c in cells if RunDirectory(results, c.run_id).failed.exists()]
    wrong = [*dict.fromkeys([*outcome.refused, *outcome.busy, *outcome.failed, *failed])]
    for name in wrong:
        message = outcome.messages.get(name) or "failed before"
        console.print(f"[red]not finished[/red] {name}: {message}", highlight=False)
    name = " ".join([arguments.experiment, *arguments.overrides])
    print(f"\nrecords: {results / 'runs'} ({len(records)} of {len(cells)} cells)\nnext:")
    if wrong:
        print(f"  sam-bench status {name}\n  sam-bench sweep {name} --retry-failed")
    print(f"  sam-bench table {name} --format markdown\n  sam-bench figures {name}\n  sam-bench run --help")
    return 1 if wrong else 0


def status(arguments: argparse.Namespace) -> int:
    """Where each cell of an experiment stands."""
    need_bench()
    from sam_bench.results.store import status as status_of
    from sam_bench.run import plan

    rows = status_of([cell.run_id for cell in plan(arguments.experiment, arguments.overrides)], paths.results_dir())
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        print(f"{row['status']:9} {row['run_id']}  {row.get('detail') or ''}".rstrip())
    counts = {name: sum(row["status"] == name for row in rows) for name in dict.fromkeys(r["status"] for r in rows)}
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    return 0

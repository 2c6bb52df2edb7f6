"""`sam-bench budgets`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sam_bench.commands import cells, sweep
from sam_bench.commands.words import add_engine, add_experiment, cell_overrides, need_bench, note
from sam_bench.errors import UsageError
from sam_bench.store import places

if TYPE_CHECKING:
    from sam_bench.api import RunSpec

EQUAL = ("train.budget=epochs,grad_evals",)


def register(commands: argparse._SubParsersAction) -> None:
    """Add the command to the command line."""
    budgets = commands.add_parser(
        "budgets", help="compare an experiment under equal epochs, equal gradient evaluations and equal seconds",
        description="Runs an experiment three times: with equal epochs, with equal gradient evaluations, and with "
        "equal training seconds (as many as SAM took). Prints the three side by side. Finished runs are kept, so the "
        "same command prints the table again.",
    )  # fmt: skip
    add_experiment(budgets)
    add_engine(budgets)
    budgets.add_argument("--format", default="terminal", choices=("terminal", "markdown", "latex", "html"))
    budgets.add_argument("--out", type=Path, help="write the table to this file")
    budgets.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run all cells under the three budgets, then print the table."""
    need_bench()
    from sam_bench.config.compose import plan
    from sam_bench.results import budgets
    from sam_bench.results.tables.render import RENDERERS
    from sam_bench.store.disk import atomic_write
    from sam_bench.store.index import load

    sweep.check(arguments)
    overrides = cell_overrides(arguments)
    if given := [word for word in overrides if word.startswith(("train.budget=", "train.seconds="))]:
        raise UsageError(f"{given[0]}: this command chooses the budgets itself; leave it out.")
    every = plan(arguments.experiment, [*overrides, *EQUAL], note)
    status = _make(arguments, every)
    seconds = budgets.calibrated(load(places.results_dir(), [cell.run_id for cell in every])) if status == 0 else {}
    for place, limit in seconds.items():
        wanted = [*overrides, "train.budget=seconds", f"train.seconds={limit:g}"]
        timed = [cell for cell in plan(arguments.experiment, wanted) if budgets.place_of(cell.labels) == place]
        status = status or _make(arguments, timed)
        every = [*every, *timed]
    records = load(places.results_dir(), [cell.run_id for cell in every])
    text = RENDERERS[arguments.format](budgets.sections(records)) if records else ""
    if arguments.out is None:
        print(text)
    else:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(arguments.out, text.encode())
    return status


def _make(arguments: argparse.Namespace, planned: Sequence["RunSpec"]) -> int:
    """Run the cells without a record; 0 if all have one afterwards, 1 if some failed, 130 after Ctrl-C."""
    from rich.console import Console

    from sam_bench.sweeps.sweep import pending

    console = Console(stderr=True)
    worker = cells.make(arguments, planned, console)
    if worker is not None and worker.interrupts:
        console.print("stopped; run the same command again to resume")
        return 130
    unfinished = pending(planned, places.results_dir(), retry_failed=True)
    for cell in unfinished:
        message = worker.tally.messages.get(cell.run_id, "failed before") if worker else "failed before"
        console.print(f"not finished {cell.run_id}: {message}", style="red", highlight=False, markup=False)
    return 1 if unfinished else 0

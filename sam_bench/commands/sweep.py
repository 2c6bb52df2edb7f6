"""`sam-bench sweep`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sam_bench.api import Engine, Outcome, RunSpec
from sam_bench.commands import beforehand, own_code
from sam_bench.commands.words import (
    add_engine,
    add_experiment,
    add_filter,
    cell_overrides,
    launcher_overrides,
    need_bench,
    note,
    same_words,
)
from sam_bench.errors import UsageError
from sam_bench.store import places
from sam_bench.training import torchrun

if TYPE_CHECKING:
    from rich.console import Console

    from sam_bench.sweeps.outcomes import Tally


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    sweep = commands.add_parser(
        "sweep", help="run a whole experiment: skips finished runs, resumes, continues after a failure",
        description="Runs the unfinished cells of an experiment, several at once, then prints the table. A cell is "
        "one run of the experiment's grid. After an interruption, run the same command again. You may also start it "
        "several times, on one or more machines that share the results folder: no cell runs twice. Ctrl-C lets the "
        "running cells write a checkpoint and stop; a second Ctrl-C stops them at once.",
    )  # fmt: skip
    add_experiment(sweep)
    add_filter(sweep)
    add_engine(sweep)
    sweep.add_argument(
        "--dry-run", action="store_true", help="only list the cells: their state, which would run, and for how long"
    )
    sweep.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run an experiment, then print its table."""
    need_bench()
    from rich.console import Console

    from sam_bench.config.compose import plan
    from sam_bench.sweeps import sweep as sweeping
    from sam_bench.sweeps.filters import matching
    from sam_bench.sweeps.outcomes import Tally

    check(arguments)
    results, console = places.results_dir(), Console(stderr=True)
    cells = matching(plan(arguments.experiment, cell_overrides(arguments), note), arguments.filter)
    pending = sweeping.pending(cells, results, retry_failed=arguments.retry_failed)
    beforehand.check(pending, results, here=arguments.launcher == "local")
    if warning := own_code.changed(cells, results):
        console.print(warning, soft_wrap=True)
    jobs, make_engine = engine(arguments, pending, results)
    if arguments.dry_run:
        from sam_bench.sweeps.standing import dry_run

        return dry_run(cells, pending, results, jobs=jobs, name=same_words(arguments, sweep=True))
    if not pending:
        return _conclude(arguments, cells, Tally(), results, console)
    from sam_bench.sweeps.display import Display

    done = len(cells) - len(pending)
    console.print(f"{arguments.experiment}: {len(cells)} cells, {done} already finished; records: {results / 'runs'}")
    chosen = make_engine()
    with Display(arguments.experiment, len(cells), done, results, console) as display:
        worker = sweeping.Sweep(pending, results, chosen, retries=arguments.retries, show=display)
        tally = worker.run()
    if worker.interrupts:
        console.print(f"stopped; `sam-bench sweep {same_words(arguments, sweep=True)}` resumes", soft_wrap=True)
        return 130
    return _conclude(arguments, cells, tally, results, console)


def check(arguments: argparse.Namespace) -> None:
    """Raise UsageError for options that contradict each other."""
    if torchrun.several():
        raise UsageError(
            "torchrun works with a single run: torchrun --nproc-per-node N -m sam_bench run ...; for a sweep use "
            "--jobs."
        )
    if arguments.retries < 0:
        raise UsageError("--retries must be at least 0.")
    if arguments.launcher != "local" and arguments.per_gpu != 1:
        raise UsageError(
            f"--per-gpu is for the GPUs of this machine; --launcher {arguments.launcher} has its own keys."
        )


def engine(
    arguments: argparse.Namespace, pending: Sequence[RunSpec], results: Path
) -> tuple[int, Callable[[], Engine]]:
    """How many cells will run at once, and a function that creates the engine."""
    from sam_bench.config.build import build_engine, trust_current_folder
    from sam_bench.config.compose import launcher_config
    from sam_bench.sweeps.engines import local

    trust_current_folder()
    own = launcher_overrides(arguments)
    if arguments.launcher != "local":
        launcher = launcher_config(arguments.launcher, own)
        at_once = arguments.jobs or launcher.get("parallel") or len(pending)
        return at_once, partial(build_engine, launcher, results, arguments.jobs)
    if own:
        raise UsageError(f"{own[0]} needs a launcher: --launcher slurm or --launcher ray.")
    per_gpu = arguments.per_gpu
    if per_gpu == "auto":
        from sam_bench.sweeps.sharing import cells_per_gpu

        sharing = cells_per_gpu(pending, results)
        per_gpu = sharing.cells
        print(f"--per-gpu auto: {per_gpu} at once on each GPU ({sharing.why})", file=sys.stderr)
    slots = local.slots(pending, arguments.jobs, per_gpu)
    return len(slots), partial(local.LocalEngine, results, slots, local.imports(pending))


def _conclude(
    arguments: argparse.Namespace, cells: Sequence[RunSpec], tally: "Tally", results: Path, console: "Console"
) -> int:
    """Print the table of the finished cells, what went wrong, and what to do next."""
    from sam_bench.results.tables.table import table
    from sam_bench.store.folder import RunDirectory
    from sam_bench.store.index import first_line, load

    records = load(results, [cell.run_id for cell in cells])
    if records:
        print(table(records, format="terminal"))
    messages = {}
    for directory in (RunDirectory(results, cell.run_id) for cell in cells):
        if directory.failed.exists() and not directory.finished:
            messages[directory.run_id] = f"failed before: {first_line(directory.failed)}"
    messages |= {name: tally.messages[name] for name, outcome in tally.ends() if outcome is not Outcome.FINISHED}
    for name, message in messages.items():
        console.print(f"not finished {name}: {message}", style="red", highlight=False, markup=False, soft_wrap=True)
    name = same_words(arguments)
    print(f"\nrecords: {results / 'runs'} ({len(cells) - len(messages)} of {len(cells)} cells finished)\nnext:")
    if messages:
        again = same_words(arguments, sweep=True)
        print(f"  sam-bench status {name}\n  sam-bench sweep {again} --retry-failed")
    print(f"  sam-bench table {name} --format markdown\n  sam-bench figures {name}\n  sam-bench run --help")
    return 1 if messages else 0

"""`sam-bench sweep`."""

import argparse
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sam_bench import paths, torchrun
from sam_bench.commands.experiments import need_bench
from sam_bench.errors import UsageError


def sweep(arguments: argparse.Namespace) -> int:
    """A whole experiment, then its table."""
    need_bench()
    from rich.console import Console

    from sam_bench import sweep as sweeping
    from sam_bench.cells import matching
    from sam_bench.run import plan

    check(arguments)
    results, console = paths.results_dir(), Console()
    cells = matching(plan(arguments.experiment, cell_overrides(arguments)), arguments.filter)
    pending = sweeping.pending(cells, results, retry_failed=arguments.retry_failed)
    jobs, make_engine = _engine(arguments, pending, results)
    if arguments.dry_run:
        from sam_bench.commands.status import dry_run

        return dry_run(cells, pending, results, jobs=jobs, name=same_words(arguments, sweep=True))
    if not pending:
        return _conclude(arguments, cells, sweeping.Outcome(), results, console)
    from sam_bench.display import Display

    done = len(cells) - len(pending)
    console.print(f"{arguments.experiment}: {len(cells)} cells, {done} done before; records go to {results / 'runs'}")
    engine = make_engine()
    with Display(arguments.experiment, len(cells), done, results, console) as display:
        worker = sweeping.Sweep(pending, results, engine, retries=arguments.retries, show=display)
        outcome = worker.run()
    if worker.interrupts:
        console.print(
            f"stopped; `sam-bench sweep {same_words(arguments, sweep=True)}` goes on where it was", soft_wrap=True
        )
        return 130
    return _conclude(arguments, cells, outcome, results, console)


def check(arguments: argparse.Namespace) -> None:
    """Raise UsageError for options that make no sense together."""
    if torchrun.several():
        raise UsageError(
            "torchrun is for one run: torchrun --nproc-per-node N -m sam_bench run ...; a sweep has --jobs."
        )
    if arguments.retries < 0:
        raise UsageError("--retries must be at least 0.")
    if arguments.launcher != "local" and arguments.per_gpu != 1:
        raise UsageError(
            f"--per-gpu is for the GPUs of this machine; --launcher {arguments.launcher} has its own keys."
        )


def cell_overrides(arguments: argparse.Namespace) -> list[str]:
    """The overrides that are not the launcher's."""
    own = launcher_overrides(arguments)
    return [word for word in arguments.overrides if word not in own]


def _engine(arguments: argparse.Namespace, pending: Sequence, results: Path) -> tuple[int, Callable]:
    """How many cells will run at once, and what makes the engine that runs them."""
    from sam_bench import local
    from sam_bench.run import build_engine, launcher_config

    own = launcher_overrides(arguments)
    if arguments.launcher != "local":
        launcher = launcher_config(arguments.launcher, own)
        at_once = arguments.jobs or launcher.get("parallel") or len(pending)
        return at_once, partial(build_engine, launcher, results, arguments.jobs)
    if own:
        raise UsageError(f"{own[0]} needs a launcher: --launcher slurm or --launcher ray.")
    slots = local.slots(pending, arguments.jobs, arguments.per_gpu)
    return len(slots), partial(local.LocalEngine, results, slots)


def launcher_overrides(arguments: argparse.Namespace) -> list[str]:
    """The overrides `launcher.key=value`."""
    return [word for word in arguments.overrides if word.startswith("launcher.")]


def same_words(arguments: argparse.Namespace, *, sweep: bool = False) -> str:
    """What names the same cells in another command: the experiment, its overrides and filters; for a sweep, where."""
    words = [arguments.experiment, *cell_overrides(arguments)]
    words += [word for text in arguments.filter for word in ("--filter", text)]
    if sweep and arguments.launcher != "local":
        words += ["--launcher", arguments.launcher, *launcher_overrides(arguments)]
    return shlex.join(words)


def _conclude(arguments, cells, outcome, results, console) -> int:
    """The table of what is there, what went wrong, and what to do next."""
    from sam_bench.results.record import RunDirectory
    from sam_bench.results.store import first_line, load
    from sam_bench.results.tables import table

    records = load(results, [cell.run_id for cell in cells])
    if records:
        print(table(records, format="terminal"))
    messages = {}
    for directory in (RunDirectory(results, cell.run_id) for cell in cells):
        if directory.failed.exists() and not directory.finished:
            messages[directory.run_id] = f"failed before: {first_line(directory.failed)}"
    messages |= {name: outcome.messages[name] for name in (*outcome.refused, *outcome.failed, *outcome.stopped)}
    for name, message in messages.items():
        console.print(f"not finished {name}: {message}", style="red", highlight=False, markup=False, soft_wrap=True)
    name = same_words(arguments)
    print(f"\nrecords: {results / 'runs'} ({len(cells) - len(messages)} of {len(cells)} cells finished)\nnext:")
    if messages:
        again = same_words(arguments, sweep=True)
        print(f"  sam-bench status {name}\n  sam-bench sweep {again} --retry-failed")
    name = shlex.join([arguments.experiment, *cell_overrides(arguments)])
    print(f"  sam-bench table {name} --format markdown\n  sam-bench figures {name}\n  sam-bench run --help")
    return 1 if messages else 0

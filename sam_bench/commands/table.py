"""`sam-bench table`."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sam_bench.api import Record
from sam_bench.commands.chosen import add_runs, chosen, records_of
from sam_bench.errors import UsageError

if TYPE_CHECKING:
    from sam_bench.results.tables.render import Section


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    table = commands.add_parser("table", help="print the results table")
    add_runs(table)
    table.add_argument("--format", default="terminal", choices=("terminal", "markdown", "csv", "latex", "html"))
    table.add_argument("--out", type=Path, help="write the table to this file")
    instead = table.add_mutually_exclusive_group()
    instead.add_argument(
        "--budgets", action="store_true",
        help="show instead equal epochs, gradient evaluations and seconds side by side, as far as there are such runs",
    )  # fmt: skip
    instead.add_argument(
        "--target", metavar="base|NUMBER",
        help="show instead what each method spends until its valid metric reaches this number, or `base`: the median "
        "of the base optimizer's runs",
    )  # fmt: skip
    table.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print or write the results table."""
    from sam_bench.results.tables.table import table as render
    from sam_bench.store.disk import atomic_write

    records = records_of(chosen(arguments))
    if arguments.budgets:
        text = _under_budgets(arguments, records)
    elif arguments.target is not None:
        text = _to_target(arguments, records)
    else:
        text = render(records, format=arguments.format)
    if arguments.out is None:
        print(text)
    else:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(arguments.out, (text.rstrip("\n") + "\n").encode())
    return 0


def _under_budgets(arguments: argparse.Namespace, records: Sequence[Record]) -> str:
    """The table of the three budgets."""
    from sam_bench.results import budgets

    return _renderer(arguments, "--budgets")(budgets.sections(records))


def _renderer(arguments: argparse.Namespace, option: str) -> Callable[[Sequence["Section"]], str]:
    """What writes sections in the format of the command line; raises UsageError for csv, which has one table only."""
    from sam_bench.results.tables.render import RENDERERS

    if arguments.format not in RENDERERS:
        raise UsageError(f"{option} has no --format {arguments.format}; choose one of {', '.join(RENDERERS)}.")
    return RENDERERS[arguments.format]


def _to_target(arguments: argparse.Namespace, records: Sequence[Record]) -> str:
    """The table of time to target."""
    from sam_bench.results import target
    from sam_bench.results.arms import blocks

    write = _renderer(arguments, "--target")
    try:
        goal = None if arguments.target == "base" else float(arguments.target)
    except ValueError:
        raise UsageError(f"--target {arguments.target!r}: write base, or a number in the metric's unit.") from None
    sections = target.sections(blocks(records), goal)
    if not sections:
        raise UsageError("no run of erm is finished, so `base` has no value yet. Give a number: --target NUMBER.")
    return write(sections)

"""`sam-bench table`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sam_bench.api import Record
from sam_bench.commands.chosen import add_runs, chosen, records_of
from sam_bench.errors import UsageError


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    table = commands.add_parser("table", help="print the results table")
    add_runs(table)
    table.add_argument("--format", default="terminal", choices=("terminal", "markdown", "csv", "latex", "html"))
    table.add_argument("--out", type=Path, help="write the table to this file")
    table.add_argument(
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
    text = render(records, format=arguments.format) if arguments.target is None else _to_target(arguments, records)
    if arguments.out is None:
        print(text)
    else:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(arguments.out, (text.rstrip("\n") + "\n").encode())
    return 0


def _to_target(arguments: argparse.Namespace, records: Sequence[Record]) -> str:
    """The table of time to target."""
    from sam_bench.results import target
    from sam_bench.results.arms import blocks
    from sam_bench.results.tables.render import RENDERERS

    if arguments.format not in RENDERERS:
        raise UsageError(f"--target has no --format {arguments.format}; choose one of {', '.join(RENDERERS)}.")
    try:
        goal = None if arguments.target == "base" else float(arguments.target)
    except ValueError:
        raise UsageError(f"--target {arguments.target!r}: write base, or a number in the metric's unit.") from None
    sections = target.sections(blocks(records), goal)
    if not sections:
        raise UsageError("no run of erm is finished, so `base` has no value yet. Give a number: --target NUMBER.")
    return RENDERERS[arguments.format](sections)

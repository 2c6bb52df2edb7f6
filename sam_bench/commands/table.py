"""`sam-bench table`."""

import argparse
from pathlib import Path

from sam_bench.commands.words import add_experiment, records_of


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    table = commands.add_parser("table", help="the results table of an experiment")
    add_experiment(table)
    table.add_argument("--format", default="terminal", choices=("terminal", "markdown", "csv", "latex", "html"))
    table.add_argument("--out", type=Path, help="write it to this file")
    table.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """The results table."""
    from sam_bench.results.tables.table import table as render
    from sam_bench.store.disk import atomic_write

    text = render(records_of(arguments.experiment, arguments.overrides), format=arguments.format)
    if arguments.out is None:
        print(text)
    else:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(arguments.out, (text.rstrip("\n") + "\n").encode())
    return 0

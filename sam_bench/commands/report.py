"""`sam-bench report`."""

import argparse
from pathlib import Path

from sam_bench.commands.words import records_of


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    report = commands.add_parser("report", help="one self-contained page about experiments")
    report.add_argument("experiments", nargs="+", metavar="experiment", help="files of configs/experiment")
    report.add_argument("--out", type=Path, default=Path("report.html"), help="the page (default: report.html)")
    report.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """One self-contained page."""
    records = {name: records_of(name) for name in arguments.experiments}
    from sam_bench.results.report.page import report as write

    print(write(records, arguments.out))
    return 0

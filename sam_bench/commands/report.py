"""`sam-bench report`."""

import argparse
import shlex
from pathlib import Path

from sam_bench.commands.chosen import add_runs, by_name, chosen


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    report = commands.add_parser("report", help="write one self-contained HTML page about runs")
    add_runs(report)
    report.add_argument("--out", type=Path, default=Path("report.html"), help="the page (default: report.html)")
    report.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the page."""
    parts = chosen(arguments)
    records = by_name(parts)
    from sam_bench.results.report.page import report as write

    print(write(records, arguments.out, {part.name: (part.maker, shlex.join(part.words)) for part in parts}))
    return 0

"""`sam-bench report`."""

import argparse
from pathlib import Path

from sam_bench.commands.words import records_of
from sam_bench.errors import UsageError


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    report = commands.add_parser("report", help="one self-contained page about experiments")
    report.add_argument(
        "experiments", nargs="+", metavar="experiment",
        help="files of configs/experiment; key=value among them, such as tuned=STUDY, holds for all of them",
    )  # fmt: skip
    report.add_argument("--out", type=Path, default=Path("report.html"), help="the page (default: report.html)")
    report.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """One self-contained page."""
    overrides = [word for word in arguments.experiments if "=" in word]
    names = [word for word in arguments.experiments if "=" not in word]
    if not names:
        raise UsageError("name an experiment, as in: sam-bench report quickstart")
    records = {name: records_of(name, overrides) for name in names}
    from sam_bench.results.report.page import report as write

    print(write(records, arguments.out, overrides))
    return 0

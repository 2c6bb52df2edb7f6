"""`sam-bench figures`."""

import argparse
from pathlib import Path

from sam_bench.commands.chosen import add_runs, chosen, name_of, records_of


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    figures = commands.add_parser("figures", help="draw learning curves and metric against cost")
    add_runs(figures)
    figures.add_argument("--out", type=Path, default=Path("paper_figures"), help="folder (default: paper_figures)")
    figures.add_argument(
        "--format", nargs="+", choices=("pdf", "png"), default=("pdf", "png"), help="kinds of files (default: both)"
    )
    figures.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Draw the figures."""
    parts = chosen(arguments)
    records = records_of(parts)
    from sam_bench.results.figures.draw import draw

    for path in draw(records, arguments.out, name=name_of(parts), formats=arguments.format):
        print(path)
    return 0

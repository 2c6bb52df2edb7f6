"""`sam-bench figures`."""

import argparse
from pathlib import Path

from sam_bench.commands.words import add_experiment, records_of


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    figures = commands.add_parser("figures", help="the figures of an experiment")
    add_experiment(figures)
    figures.add_argument("--out", type=Path, default=Path("paper_figures"), help="folder (default: paper_figures)")
    figures.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """The figures."""
    records = records_of(arguments.experiment, arguments.overrides)
    from sam_bench.results.figures.draw import draw

    for path in draw(records, arguments.out, name=arguments.experiment):
        print(path)
    return 0

"""`sam-bench verdicts`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sam_bench.api import Record
from sam_bench.commands.words import need_bench
from sam_bench.store import places


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    verdicts = commands.add_parser(
        "verdicts", help="judge published claims: reproduced, not reproduced, undecided",
        description="Compares published claims with the records. The test that decides each claim was written down "
        "in a YAML file before the runs. A claim is `not finished` until all planned runs of its experiment are "
        "there.",
    )  # fmt: skip
    verdicts.add_argument("--claims", type=Path, metavar="FILE", help="your own claims (default: the package's)")
    verdicts.add_argument("--format", default="terminal", choices=("terminal", "markdown", "latex", "html"))
    verdicts.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the verdicts on all claims."""
    need_bench()
    from sam_bench.results import verdicts
    from sam_bench.results.tables.render import RENDERERS

    claims = verdicts.read(arguments.claims or verdicts.CLAIMS)
    found = verdicts.verdicts(claims, _planned)
    print(RENDERERS[arguments.format]([verdicts.section(found)]), end="")
    return 0


def _planned(experiment: str, overrides: Sequence[str]) -> tuple[int, Sequence[Record]]:
    """How many runs an experiment has, and the records that exist."""
    from sam_bench.config.compose import plan
    from sam_bench.store.index import load

    cells = plan(experiment, overrides)
    return len(cells), load(places.results_dir(), [cell.run_id for cell in cells])

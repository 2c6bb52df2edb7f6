"""`sam-bench data`."""

import argparse

from sam_bench.commands.words import need_bench
from sam_bench.config import files
from sam_bench.store import places


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    data = commands.add_parser("data", help="list, fetch or verify the data sets")
    data.add_argument("action", choices=("list", "fetch", "verify"))
    data.add_argument("names", nargs="*", help="data sets (default: all)")
    data.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """List, fetch or verify data sets."""
    need_bench()
    from sam_bench.datasets import catalogue

    act = {"list": catalogue.command_list, "fetch": catalogue.command_fetch, "verify": catalogue.command_verify}
    return act[arguments.action](arguments.names, files.config_dirs(), places.data_dir())

"""`sam-bench speed`."""

import argparse
import contextlib
import importlib
import sys

from sam_bench.commands.words import add_json, need_bench, put_json


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    speed = commands.add_parser(
        "speed", help="measure the cost of optimizers and of models",
        description="Measures the cost of optimizers, or of training on molecules or images. Each has its own options: "
        "sam-bench speed molecules --help.",
    )  # fmt: skip
    speed.add_argument("what", choices=("optimizers", "molecules", "images"))
    speed.add_argument("arguments", nargs=argparse.REMAINDER, help="the options of this measurement")
    speed.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run one of the speed measurements."""
    need_bench()
    module = importlib.import_module(f"sam_bench.speed.{arguments.what}")
    parser = argparse.ArgumentParser(f"sam-bench speed {arguments.what}", description=module.__doc__)
    module.add_arguments(parser)
    add_json(parser)
    args = parser.parse_args(arguments.arguments)
    with contextlib.redirect_stdout(sys.stderr) if args.json == "-" else contextlib.nullcontext():
        found = module.run(args)
    if args.json:
        put_json(found, args.json)
    return 0

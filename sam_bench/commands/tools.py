"""`sam-bench data` and `speed`."""

import argparse
import importlib

from sam_bench import paths
from sam_bench.commands.experiments import need_bench


def data(arguments: argparse.Namespace) -> int:
    """List, fetch or verify data sets."""
    need_bench()
    from sam_bench.datasets import catalogue

    return getattr(catalogue, f"command_{arguments.action}")(arguments.names, paths.config_dirs(), paths.data_dir())


def speed(arguments: argparse.Namespace) -> int:
    """Measure something, side by side in one run."""
    need_bench()
    module = importlib.import_module(f"sam_bench.speed_{arguments.what}")
    parser = argparse.ArgumentParser(f"sam-bench speed {arguments.what}", description=module.__doc__)
    module.add_arguments(parser)
    return module.main(parser.parse_args(arguments.arguments))

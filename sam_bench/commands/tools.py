"""`sam-bench data`, `speed` and `references`."""

import argparse
import importlib
import sys

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


def references(arguments: argparse.Namespace) -> int:
    """Simple references on the splits of an experiment, beside its finished runs."""
    need_bench()
    from sam_bench.run import plan

    cells = plan(arguments.experiment, arguments.overrides)
    from sam_bench.references import compare
    from sam_bench.results.store import load

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    records = load(paths.results_dir(), [cell.run_id for cell in cells])
    rows = compare(cells, records, paths.data_dir(), arguments.jobs, say)
    metrics = {cell.labels["dataset"]: cell.config["dataset"]["metric"] for cell in cells}
    lines = ["| data set | metric | method | valid | test |", "|---|---|---|---|---|"]
    lines += [f"| {dataset} | {metrics[dataset]} | {' | '.join(row)} |" for dataset, *row in rows]
    print(*lines, "mean ± sample standard deviation (n)", sep="\n")
    return 0

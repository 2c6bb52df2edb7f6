"""`sam-bench references`."""

import argparse
import sys

from sam_bench.commands.chosen import add_runs, cells_of, chosen, run_ids_of
from sam_bench.store import places


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    references = commands.add_parser(
        "references", help="random forest and ridge on Morgan fingerprints, on the splits of runs",
        description="Fits both on the molecules, splits and metric of each cell and prints them beside the finished "
        "runs. Ridge's penalty is chosen by the valid split; nothing is stored.",
    )  # fmt: skip
    add_runs(references)
    references.add_argument("--jobs", type=int, help="cores of the random forest (default: 1)")
    references.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Simple references on the splits of an experiment, beside its finished runs."""
    parts = chosen(arguments)
    cells = cells_of(parts)
    from sam_bench.store.index import load
    from sam_bench.training.references import compare

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    records = load(places.results_dir(), run_ids_of(parts))
    rows = compare(cells, records, places.data_dir(), arguments.jobs, say)
    metrics = {cell.labels["dataset"]: cell.config["dataset"]["metric"] for cell in cells}
    lines = ["| data set | metric | method | valid | test |", "|---|---|---|---|---|"]
    lines += [f"| {dataset} | {metrics[dataset]} | {' | '.join(row)} |" for dataset, *row in rows]
    print(*lines, "mean ± sample standard deviation (n)", sep="\n")
    return 0

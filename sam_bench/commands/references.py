"""`sam-bench references`."""

import argparse
import sys

from sam_bench.commands.chosen import add_runs, cells_of, chosen, run_ids_of
from sam_bench.store import places


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    references = commands.add_parser(
        "references", help="fit simple baselines (random forest, ridge) on the splits of an experiment",
        description="Fits a random forest and ridge regression on Morgan fingerprints. They use the molecules, the "
        "splits and the metric of each run, and are printed beside the finished runs. The valid split chooses ridge's "
        "penalty. Nothing is stored.",
    )  # fmt: skip
    add_runs(references)
    references.add_argument("--jobs", type=int, help="cores for the random forest (default: 1)")
    references.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Fit the references on the splits of an experiment and print them beside its finished runs."""
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

"""`sam-bench sharpness`."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sam_bench.api import RunSpec
from sam_bench.commands.chosen import Chosen, add_runs, cells_of, chosen, no_record, same_words
from sam_bench.errors import UsageError
from sam_bench.store import places


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    sharpness = commands.add_parser(
        "sharpness",
        help="measure the sharpness of finished runs: Hessian, m-sharpness, generalisation gap",
        description="Measures every finished run at its best weights and writes one record for each. Existing "
        "measurements are kept. By default it measures the largest Hessian eigenvalue, the Hessian's trace, "
        "m-sharpness, the rise of the loss in a ball around the weights, and the gap between test and train loss.",
    )
    add_runs(sharpness)
    add = sharpness.add_argument
    kinds = sharpness.add_mutually_exclusive_group()
    for kind, what in (("landscape", "the loss in a plane"), ("gradients", "successive gradients, by training again")):
        kinds.add_argument(
            f"--{kind}",
            dest="kind",
            action="store_const",
            const=kind,
            default="sharpness",
            help=f"measure instead {what}",
        )
    add("--samples", type=int, default=512, help="number of training samples for the loss (default: 512)")
    add("--m", type=int, default=0, help="samples in each batch of m-sharpness (default: the run's batch size)")
    add("--rho", type=float, default=0.05, help="radius of all perturbations (default: 0.05)")
    add("--ascent-steps", type=int, default=1, help="ascent steps in m-sharpness (default: 1, as in SAM)")
    add("--probes", type=int, default=16, help="number of random vectors for the trace (default: 16)")
    add("--directions", type=int, default=16, help="number of pairs of random points in the ball (default: 16)")
    add("--tolerance", type=float, default=1e-3, help="accepted relative residual of the eigenvalue (default: 0.001)")
    add("--products", type=int, default=100, help="limit of Hessian products for the eigenvalue (default: 100)")
    add("--points", type=int, default=21, help="with --landscape: points along each axis (default: 21)")
    add("--span", type=float, default=1.0, help="with --landscape: distance to each side, in filter norms (default: 1)")
    add("--every", type=int, default=7, help="with --gradients: watch two steps out of this many (default: 7)")
    add("--seed", type=int, default=0, dest="draws", help="seed of the subset and the random vectors (default: 0)")
    sharpness.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure every finished run."""
    parts = chosen(arguments)
    cells = cells_of(parts)
    from sam_bench.training import threads

    threads.before_torch(threads.SEVERAL)
    from sam_bench.sharpness import measure
    from sam_bench.store.added import read

    results, kind = places.results_dir(), arguments.kind
    options = {**vars(arguments), "seed": arguments.draws}
    settings = {cell.run_id: measure.settings_of(kind, options, cell) for cell in cells}
    runs, bad = _measurable(cells, results)
    if not bad:
        _need(runs, parts, results)
    for number, found in enumerate(runs, 1):
        try:
            path, new = measure.measure(kind, found, settings[found.cell.run_id], results)
            said = _SAY[kind](read(path)) + ("" if new else " (measured before)")
        except UsageError as error:  # one bad run does not stop the others
            bad.append(said := str(error))
        print(f"[{number}/{len(runs)}] {found.cell.run_id}: {said}", flush=True)
    print(f"records: {results / kind}")
    if len(runs) < len(cells):
        print(f"not measured: {len(cells) - len(runs)} of {len(cells)} runs (unfinished, or without best.pt)")
    name = same_words(arguments)
    print(f"next:\n  sam-bench table {name}\n  sam-bench figures {name}")
    if bad:
        print(f"{len(bad)} runs could not be measured", file=sys.stderr)
    return 1 if bad else 0


def _measurable(cells: list[RunSpec], results: Path) -> tuple[list, list[str]]:
    """The finished runs with their weights, and what is wrong with those that cannot be used; prints the latter."""
    from sam_bench.sharpness import measure

    runs, bad = [], []
    for cell in cells:
        try:
            runs.append(measure.finished(cell, results))
        except UsageError as error:
            bad.append(str(error))
            print(f"{cell.run_id}: {error}", flush=True)
    return [found for found in runs if found], bad


def _need(runs: Sequence[object], parts: Sequence[Chosen], results: Path) -> None:
    """Raise UsageError if there is nothing to measure."""
    from sam_bench.store.folder import RunDirectory

    if runs:
        return
    there = sum(RunDirectory(results, cell.run_id).finished for cell in cells_of(parts))
    if there:
        raise UsageError(
            f"the {there} finished runs in {results / 'runs'} have no best.pt (committed records carry no weights). "
            "Make them again elsewhere: "
            + "; ".join(f"SAM_BENCH_RESULTS=/some/folder {part.maker}" for part in parts if part.maker)
        )
    raise no_record(parts, "finished run")


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4g}"


def _say_sharpness(content: Mapping[str, Any]) -> str:
    top, trace = content["largest_eigenvalue"], content["trace"]
    doubt = "" if top["converged"] else " (not converged)"
    return (
        f"largest eigenvalue {_number(top['value'])}{doubt}, trace {_number(trace['mean'])} "
        f"+- {_number(trace['standard_error'])}, m-sharpness {_number(content['m_sharpness']['mean'])}, "
        f"in the ball {_number(content['ball']['mean'])}, gap {_number(content['gap']['loss'])}"
    )


def _say_landscape(content: Mapping[str, Any]) -> str:
    losses = [value for row in content["losses"] for value in row if value is not None]
    return f"loss {_number(min(losses, default=None))} to {_number(max(losses, default=None))}"


def _say_gradients(content: Mapping[str, Any]) -> str:
    same = "the same final weights as the run" if content["same_weights"] else "not the same final weights as the run"
    return f"{len(content['rows']['step'])} of {content['steps']} steps watched, {same}"


_SAY = {"sharpness": _say_sharpness, "landscape": _say_landscape, "gradients": _say_gradients}

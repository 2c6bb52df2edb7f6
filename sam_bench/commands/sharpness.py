"""`sam-bench sharpness`."""

import argparse
import shlex
from collections.abc import Mapping

from sam_bench import paths
from sam_bench.commands.experiments import need_bench
from sam_bench.errors import UsageError


def sharpness(arguments: argparse.Namespace) -> int:
    """Measure every finished run of an experiment."""
    need_bench()
    from sam_bench.run import plan

    cells = plan(arguments.experiment, arguments.overrides)
    from sam_bench import measure
    from sam_bench.results.added import read

    results, kind = paths.results_dir(), arguments.kind
    options = {**vars(arguments), "seed": arguments.draws}
    chosen = {cell.run_id: measure.settings_of(kind, options, cell) for cell in cells}
    runs = [found for cell in cells if (found := measure.finished(cell, results))]
    _need(runs, cells, results, arguments.experiment)
    for number, found in enumerate(runs, 1):
        path, new = measure.measure(kind, found, chosen[found.cell.run_id], results)
        said = _SAY[kind](read(path))
        print(f"[{number}/{len(runs)}] {found.cell.run_id}: {said}{'' if new else ' (measured before)'}", flush=True)
    print(f"records: {results / kind}")
    if len(runs) < len(cells):
        print(f"not measured: {len(cells) - len(runs)} of {len(cells)} cells, not finished or without their best.pt")
    name = shlex.join([arguments.experiment, *arguments.overrides])
    print(f"next:\n  sam-bench table {name}\n  sam-bench figures {name}")
    return 0


def _need(runs: list, cells: list, results, experiment: str) -> None:
    """Raise UsageError when there is nothing to measure."""
    from sam_bench.results.record import RunDirectory

    if runs:
        return
    there = sum(RunDirectory(results, cell.run_id).finished for cell in cells)
    if there:
        raise UsageError(
            f"the {there} finished runs of {experiment} in {results / 'runs'} have no best.pt (committed records carry "
            "no weights). Make them again elsewhere: SAM_BENCH_RESULTS=/some/folder sam-bench sweep " + experiment
        )
    raise UsageError(
        f"no finished run of {experiment} in {results / 'runs'}. Make them with: sam-bench sweep {experiment}, or set "
        "SAM_BENCH_RESULTS to where they are."
    )


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4g}"


def _say_sharpness(content: Mapping) -> str:
    top, trace = content["largest_eigenvalue"], content["trace"]
    doubt = "" if top["converged"] else " (not converged)"
    return (
        f"largest eigenvalue {_number(top['value'])}{doubt}, trace {_number(trace['mean'])} "
        f"+- {_number(trace['standard_error'])}, m-sharpness {_number(content['m_sharpness']['mean'])}, "
        f"in the ball {_number(content['ball']['mean'])}, gap {_number(content['gap']['loss'])}"
    )


def _say_landscape(content: Mapping) -> str:
    losses = [value for row in content["losses"] for value in row if value is not None]
    return f"loss {_number(min(losses, default=None))} to {_number(max(losses, default=None))}"


def _say_gradients(content: Mapping) -> str:
    same = "the same weights again" if content["same_weights"] else "other weights than the run's: other bits here"
    return f"{len(content['rows']['step'])} of {content['steps']} steps watched, {same}"


_SAY = {"sharpness": _say_sharpness, "landscape": _say_landscape, "gradients": _say_gradients}

"""Run cells, for commands that consist of several sweeps."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sam_bench.commands import sweep
from sam_bench.store import places

if TYPE_CHECKING:
    from rich.console import Console

    from sam_bench.api import RunSpec
    from sam_bench.sweeps.sweep import Sweep


def make(arguments: argparse.Namespace, cells: Sequence["RunSpec"], console: "Console") -> "Sweep | None":
    """Run the cells without a record. Returns the sweep that ran them, or None if there was nothing to do."""
    from sam_bench.sweeps.display import Display
    from sam_bench.sweeps.sweep import Sweep, pending

    results = places.results_dir()
    todo = pending(cells, results, retry_failed=arguments.retry_failed)
    done = len(cells) - len(todo)
    console.print(f"{arguments.experiment}: {len(cells)} runs, {done} already finished; records: {results / 'runs'}")
    if not todo:
        return None
    engine = sweep.engine(arguments, todo, results)[1]()
    with Display(arguments.experiment, len(cells), done, results, console) as display:
        worker = Sweep(todo, results, engine, retries=arguments.retries, show=display)
        worker.run()
    return worker

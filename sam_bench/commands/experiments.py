"""What several commands need of an experiment."""

import importlib.util
from collections.abc import Sequence

from sam_bench import paths
from sam_bench.errors import UsageError


def need_bench() -> None:
    """Raise UsageError when only the optimizers are installed."""
    if importlib.util.find_spec("hydra") is None:
        raise UsageError("this command needs the whole suite: pip install 'sam-bench[bench]'")


def records_of(experiment: str, overrides: Sequence[str] = ()) -> list:
    """The records of an experiment; UsageError when there is none."""
    need_bench()
    from sam_bench.results.store import load
    from sam_bench.run import plan

    records = load(paths.results_dir(), [cell.run_id for cell in plan(experiment, overrides)])
    if not records:
        raise UsageError(
            f"no record of {experiment} in {paths.results_dir() / 'runs'}. "
            f"Make them with: sam-bench sweep {experiment}, or set SAM_BENCH_RESULTS to where they are."
        )
    return records

"""Something computed for each of many SMILES, on several cores where that pays."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor

PARALLEL_FROM = 5000  # with fewer molecules, starting processes takes longer than the work
CHUNK = 1000


def cores() -> int:
    """Number of cores this process may use; in a container or a batch job the machine may have more."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def processes(jobs: int) -> Iterator[Parallel]:
    """joblib's `Parallel` on `jobs` processes, which end with the block; it returns a generator.

    They import neither the caller's script nor torch, so this works in a notebook and in a script without a __main__
    guard, and nothing forks after torch has started its threads. joblib itself would keep idle processes for five
    minutes, and so would this process stay alive if it is a worker of a sweep that has finished its run.
    """
    try:
        yield Parallel(n_jobs=jobs, return_as="generator")
    finally:
        if jobs > 1:
            get_reusable_executor().shutdown(wait=True, kill_workers=True)


def in_chunks(each: Callable[[Sequence[str]], list[str]], smiles: Sequence[str], jobs: int | None = None) -> list[str]:
    """`each(smiles)`, computed in chunks by `jobs` processes if there are many; jobs None uses every core."""
    jobs = jobs or cores()
    if jobs == 1 or len(smiles) < PARALLEL_FROM:
        return each(smiles)
    chunks = (smiles[i : i + CHUNK] for i in range(0, len(smiles), CHUNK))
    with processes(jobs) as workers:
        return list(chain.from_iterable(workers(delayed(each)(chunk) for chunk in chunks)))

"""Something computed for each of many SMILES, on several cores where that pays."""

import os
from collections.abc import Callable, Sequence
from itertools import chain

from joblib import Parallel, delayed

PARALLEL_FROM = 5000  # with fewer molecules, starting processes takes longer than the work
CHUNK = 1000


def cores() -> int:
    """Number of cores this process may use; in a container or a batch job the machine may have more."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_chunks(each: Callable[[Sequence[str]], list[str]], smiles: Sequence[str], jobs: int | None = None) -> list[str]:
    """`each(smiles)`, computed in chunks by `jobs` processes if there are many; jobs None uses every core."""
    jobs = jobs or cores()
    if jobs == 1 or len(smiles) < PARALLEL_FROM:
        return each(smiles)
    chunks = (smiles[i : i + CHUNK] for i in range(0, len(smiles), CHUNK))
    # joblib's processes do not import the caller's script or torch; featurising has started them already
    return list(chain.from_iterable(Parallel(n_jobs=jobs)(delayed(each)(chunk) for chunk in chunks)))

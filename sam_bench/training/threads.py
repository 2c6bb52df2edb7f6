"""The CPU threads of a run. The number is fixed, because sums, and so the last bits of a run, depend on it."""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from sam_bench.errors import UsageError

DEFAULT = 1
# torch, MKL and the BLAS of numpy read these when they are loaded. All start with one thread; a run then sets torch's.
# A "dynamic" number of threads follows the load of the machine.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_DYNAMIC": "FALSE", "MKL_DYNAMIC": "FALSE"}
SEVERAL = {**ENVIRONMENT, "OMP_WAIT_POLICY": "PASSIVE"}  # other runs share the cores, so do not spin while waiting


def before_torch(environment: Mapping[str, str] = ENVIRONMENT) -> None:
    """Set the variables that torch reads on import; after the import they only affect child processes."""
    os.environ.update(environment)
    os.environ.pop("OMP_THREAD_LIMIT", None)


def of_config(config: Mapping[str, Any]) -> int:
    """The `threads` of a configuration; older configurations without the key have the default."""
    return int(config.get("threads", DEFAULT))


def use(number: int) -> int:
    """Let torch compute with this many threads; raises UsageError if it does not."""
    import torch

    torch.set_num_threads(number)
    if (actual := torch.get_num_threads()) != number:
        raise UsageError(
            f"this run needs {number} threads, but torch uses {actual} here: its result would differ in the last "
            f"bits. Run it with threads={actual}; an interrupted run first needs its .running folder removed."
        )
    return number


@contextlib.contextmanager
def using(number: int | None) -> Iterator[None]:
    """Let torch compute with this many threads, and afterwards with as many as before; None changes nothing."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def resumed(state: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    """Use the number of threads of the checkpoint `state` ({} for a new run), even if `config` has another.

    Raises UsageError if torch refuses that number.
    """
    chosen = of_config(config)
    begun = int(state.get("threads", chosen))  # an older checkpoint has no such key
    if begun != chosen:
        print(f"note: this run was started with threads={begun} and keeps them, not {chosen}", file=sys.stderr)
    return use(begun)

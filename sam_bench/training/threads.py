"""The CPU threads of a run: a fixed number, for the sums of a run depend on it, and with them its last bits."""

import os
import sys
from collections.abc import Mapping
from typing import Any

from sam_bench.errors import UsageError

DEFAULT = 1
# What torch, MKL and the BLAS of numpy read when they are loaded. All start with one thread; a run then sets torch's.
# A "dynamic" number of threads follows the load of the machine.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_DYNAMIC": "FALSE", "MKL_DYNAMIC": "FALSE"}
SEVERAL = {**ENVIRONMENT, "OMP_WAIT_POLICY": "PASSIVE"}  # where other runs share the cores: do not spin while waiting


def before_torch(environment: Mapping[str, str] = ENVIRONMENT) -> None:
    """Set what torch reads when it is imported; once it is, this only concerns child processes."""
    os.environ.update(environment)
    os.environ.pop("OMP_THREAD_LIMIT", None)


def of_config(config: Mapping[str, Any]) -> int:
    """The `threads` of a configuration; those of before there was the key have the default."""
    return int(config.get("threads", DEFAULT))


def use(number: int) -> int:
    """Let torch compute with this many threads; raises UsageError where it does not."""
    import torch

    torch.set_num_threads(number)
    if (actual := torch.get_num_threads()) != number:
        raise UsageError(
            f"this run needs {number} threads, but torch uses {actual} here: its result would differ in the last "
            f"bits. Run it with threads={actual}; an interrupted run first needs its .running folder removed."
        )
    return number


def resumed(state: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    """Go on with the threads that the checkpoint `state` was begun with, {} for a new run, whatever `config` says.

    Raises UsageError where torch refuses that number.
    """
    chosen = of_config(config)
    begun = int(state.get("threads", chosen))  # a checkpoint of before there was the key does not say
    if begun != chosen:
        print(f"note: this run was begun with threads={begun} and goes on so, not with {chosen}", file=sys.stderr)
    return use(begun)

"""Several cells in the processes that torchrun starts, one group for all of them; run by test_torchrun.py.

Arguments: a folder for what each process says, and a JSON list of requests: the results folder, after how many steps
the last rank asks for a stop (0: never), and the overrides.
"""

import json
import os
import sys
from pathlib import Path

import torch

from sam_bench.config.compose import compose_specs
from sam_bench.errors import UsageError
from sam_bench.training import processes
from sam_bench.training.life import Stopped, execute


def stop_after(steps: int):
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls == steps and processes.rank() == processes.count() - 1

    return stop


def say(results: str, steps: int, overrides: list[str]) -> str:
    """Make one cell; how that ended."""
    try:
        (cell,) = compose_specs(overrides)
        execute(cell, Path(results), stop=stop_after(steps))
    except Stopped:
        return "stopped"
    except UsageError as error:
        return str(error)
    return "finished"


def without_code(model, *, dynamic, options, compile=torch.compile):
    """torch.compile with its own tracing and torch's own operations: seconds instead of minutes."""
    return compile(model, dynamic=dynamic, backend="aot_eager")


if __name__ == "__main__":
    torch.compile = without_code
    with processes.together("cpu"):
        said = [say(*request) for request in json.loads(sys.argv[2])]
    Path(sys.argv[1], f"said.{os.environ['RANK']}.json").write_text(json.dumps(said))
    os._exit(0)  # as `sam-bench run`: gloo's threads now and then abort Python's own way out

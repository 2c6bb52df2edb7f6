"""A training step of other code, to compare with ours: `sam-bench speed molecules --against DIR`.

DIR is a checkout that contains a file `sam_bench_step.py`, or that file itself. You write it once per checkout. Its
function `build(config)` makes the model and the optimizer of the configuration and returns `step(smiles, targets)`,
which makes one training step. `config` is the resolved configuration with `num_outputs`, `smiles` a list of n SMILES,
`targets` a tensor (n, num_outputs) with NaN for a missing label. The first epoch is not timed. In it, the step can
prepare what it keeps for later epochs, such as features.
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sam_bench.datasets.task import Task
from sam_bench.errors import UsageError

FILE = "sam_bench_step.py"


def arm_name(path: str) -> str:
    """Its name in the tables: the folder of the checkout."""
    return f"{_file(path).parent.name} (--against)"


def foreign_step(path: str, config: Mapping[str, Any], task: Task,
                 batches: Sequence[torch.Tensor]) -> Callable[[int], None]:  # fmt: skip
    """Step number i of their code, on the molecules of batch i; raises UsageError if it cannot be built."""
    smiles = getattr(task.source, "smiles", None)
    if smiles is None:
        raise UsageError(f"--against needs SMILES, and dataset {config['dataset']['name']} has none.")
    step = _build(path)({**config, "num_outputs": task.num_outputs})
    ready = [([smiles[i] for i in index.tolist()], task.targets[index]) for index in batches]

    def call(number: int) -> None:
        torch.manual_seed(number)
        step(*ready[number])

    return call


def _build(path: str) -> Callable[[Mapping[str, Any]], Callable[..., Any]]:
    """Their function `build`; it can import the files beside it."""
    file = _file(path)
    found = importlib.util.spec_from_file_location("sam_bench_step", file)
    if not file.is_file() or found is None or found.loader is None:
        raise UsageError(
            f"--against {path}: there is no file {file}. Write it, with a function build(config) that returns "
            "step(smiles, targets); see docs/molecules.md."
        )
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    if not callable(build := getattr(module, "build", None)):
        raise UsageError(f"{file} has no function build(config).")
    return build


def _file(path: str) -> Path:
    given = Path(path).expanduser().absolute()
    return given if given.suffix == ".py" else given / FILE

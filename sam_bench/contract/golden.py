"""Point 10 of the optimizers: what the authors' code of each method does, weight by weight, on one tiny problem.

`golden.npz` beside this file holds some rows of each recorded run.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from sam_bench.config.files import config_dir
from sam_bench.contract.result import Broken, NotApplicable, point
from sam_bench.contract.subject import Subject

PACKED = Path(__file__).with_name("golden.npz")
EPOCH = 4  # steps in an epoch of the problem


@dataclass(frozen=True)
class Case:
    """A recorded run and the options that reproduce it; `micro` micro-batches per step."""

    method: str
    options: dict[str, Any]
    tolerance: float = 1e-10
    micro: int = 1


AE = {"lambda_1": -1.0, "lambda_2": 1.0, "sigma2_0": 1e-8}
PLAIN = {"gamma": 1.0, "weigh_loss": False}
CASES = {
    "plain_sgd": Case("erm", {}),
    "plain_adam": Case("erm", {}),
    "sam_sgd": Case("sam", {"rho": 0.05}),
    "sam_adam": Case("sam", {"rho": 0.05}),
    "sam_sgd_two_groups": Case("sam", {}),
    "sam_sgd_accum2": Case("sam", {"rho": 0.05}, micro=2),
    "asam_davda54_sgd": Case("asam_all", {"rho": 0.5}),
    "asam_davda54_adam": Case("asam_all", {"rho": 0.5}),
    "asam_official_eta001_sgd": Case("asam", {"rho": 0.5, "eta": 0.01}),
    "looksam_physicsnemo_sgd_k1": Case("looksam", {"rho": 0.1, "k": 1}),
    "looksam_physicsnemo_sgd_k5": Case("looksam", {"rho": 0.1, "k": 5}),
    "looksam_physicsnemo_adam_k5": Case("looksam", {"rho": 0.1, "k": 5}),
    "looksam_rollovd_sgd_k5": Case("looksam_per_tensor", {"rho": 0.1, "k": 5}),
    "fsam_official_sgd_s1.0_l0.9": Case("fsam", {"sigma": 1.0, "lmbda": 0.9}),
    "fsam_official_adam_s1.0_l0.6": Case("fsam", {"sigma": 1.0, "lmbda": 0.6}),
    "graphsam_official_asrun_torch1_adam": Case("graphsam_reference", {"gamma": 1.0}),
    "graphsam_official_asrun_torch1_plainloss_sgd": Case("graphsam_reference", PLAIN),
    "graphsam_official_keepgrad_nonadaptive_sgd": Case(
        "graphsam_reference", PLAIN | {"adaptive": False, "zeroed_norm": False, "zeroed_average": False}
    ),
    "vsam_official_sgd_K4": Case("vsam", {"K": 4, "M": 2, "last": 2}),
    "gsam_official_sgd": Case("gsam", {"alpha": 0.4}),
    "esam_official_sgd_b1.0_g0.5": Case("esam", {"beta": 1.0, "gamma": 0.5}),
    "aesam_transcription_sgd": Case("ae_sam", AE),
    "aelooksam_transcription_sgd": Case("ae_looksam", AE),
}


@dataclass(frozen=True)
class Golden:
    """A recorded run: its base, weights after some steps (123,) and per-step scalars."""

    base: str
    hp: dict[str, Any]
    steps: int
    w: dict[int, np.ndarray]
    info: dict[str, np.ndarray]
    source: str


@cache
def packed() -> dict[str, np.ndarray]:
    """All that golden.npz holds."""
    with np.load(PACKED) as stored:
        return dict(stored)


def load(name: str) -> Golden:
    """The packed rows of the run `name`."""
    prefix = f"{name}/"
    arrays = {key.removeprefix(prefix): value for key, value in packed().items() if key.startswith(prefix)}
    meta = json.loads(str(arrays.pop("meta")))
    w = {int(key.removeprefix("w_")): arrays.pop(key) for key in list(arrays) if key.startswith("w_")}
    return golden_of(meta, w, arrays)


def golden_of(meta: dict[str, Any], w: dict[int, np.ndarray], arrays: dict[str, np.ndarray]) -> Golden:
    """A recorded run from its description, its weights by step, and its scalars."""
    info = {key.removeprefix("info_"): value for key, value in arrays.items()}
    source = meta["impl"] + (f" {meta['commit'][:7]}" if "commit" in meta else "")
    return Golden(meta["base"], meta["hp"], len(info["n_forward"]), w, info, source)


class Problem:
    """Linear(6,12) - tanh - Linear(12,3), cross-entropy, 64 samples in 4 batches, float64, never shuffled."""

    def __init__(self) -> None:
        stored = packed()
        self.X, self.Y = torch.tensor(stored["problem/X"]), torch.tensor(stored["problem/Y"])
        self.model = nn.Sequential()
        for name, module in (("fc1", nn.Linear(6, 12)), ("act", nn.Tanh()), ("fc2", nn.Linear(12, 3))):
            self.model.add_module(name, module)
        self.model.double()
        nn.utils.vector_to_parameters(torch.tensor(stored["problem/w0"]), self.model.parameters())

    def closure(self, step: int, micro: int = 1) -> "Batch":
        """The closure of a step, its batch in `micro` micro-batches."""
        return Batch(self, torch.arange(16 * (step % EPOCH), 16 * (step % EPOCH) + 16), micro)

    @property
    def w(self) -> np.ndarray:
        """All weights (123,)."""
        return nn.utils.parameters_to_vector(self.model.parameters()).detach().numpy().copy()


class Batch:
    """Forward and backward on some rows of the problem."""

    def __init__(self, problem: Problem, rows: torch.Tensor, micro: int):
        self.problem, self.samples, self.micro = problem, rows, micro

    def __call__(self, index: torch.Tensor | None = None, backward: bool = True) -> torch.Tensor:
        """The losses, detached."""
        rows, problem = self.samples if index is None else self.samples[index], self.problem
        parts = []
        for part in rows.chunk(self.micro):
            losses = nn.functional.cross_entropy(problem.model(problem.X[part]), problem.Y[part], reduction="none")
            if backward:
                torch.autograd.backward(losses.sum() / len(rows))
            parts.append(losses.detach())
        return torch.cat(parts)


def base_of(golden: Golden, model: nn.Module) -> torch.optim.Optimizer:
    """The base optimizer of a recorded run."""
    hp = golden.hp
    if golden.base == "adam":
        return torch.optim.Adam(model.parameters(), lr=hp["lr"], betas=hp["betas"], weight_decay=hp["weight_decay"])
    if "groups" in hp:
        named = list(model.named_parameters())
        parts = {"weights": [p for n, p in named if "weight" in n], "biases": [p for n, p in named if "bias" in n]}
        groups = [{**group, "params": parts[group["params"]]} for group in hp["groups"]]
        return torch.optim.SGD(groups, momentum=hp["momentum"])
    return torch.optim.SGD(model.parameters(), lr=hp["lr"], momentum=hp["momentum"], weight_decay=hp["weight_decay"])


def settings(method: str) -> dict[str, Any]:
    """The YAML of a built-in method."""
    found: dict[str, Any] = yaml.safe_load((config_dir() / "optimizer" / f"{method}.yaml").read_text())
    return found


def deviation(
    name: str, golden: Golden, make: Callable[..., Any], step: Callable[[Any, Any], Any]
) -> tuple[float, Any]:
    """Largest difference of any weight after any recorded step, and the optimizer at the end.

    `make(model, base, **options)` makes the method, `step(optimizer, closure)` makes a step; the closure's `samples`
    are the positions of its batch.
    """
    case, problem = CASES[name], Problem()
    options = {key: value for key, value in settings(case.method).items() if key != "_target_"} | case.options
    lengths = {"steps_per_epoch": EPOCH, "total_steps": golden.steps}
    optimizer = make(problem.model, base_of(golden, problem.model), **lengths, **options)
    if "u" in golden.info:
        optimizer.draw = lambda step: golden.info["u"][step]
    largest = 0.0
    for t in range(golden.steps):
        if "lr" in golden.info:
            optimizer.param_groups[0] |= {"lr": golden.info["lr"][t], "rho": golden.info["rho"][t]}
        step(optimizer, problem.closure(t, case.micro))
        if t + 1 in golden.w:
            largest = max(largest, abs(problem.w - golden.w[t + 1]).max())
    return largest, optimizer


@point("10", "it follows the recorded trajectories of the authors' code, each weight within 1e-10",
       "Compare the rule with the authors' code at the first step that differs; docs/optimizers/golden.md says which "
       "code made each run.")  # fmt: skip
def trajectories(subject: Subject) -> str:
    """Follow every recorded run of the class, or of the class that `claims.recorded` names."""
    kind = subject.claims.recorded or subject.kind.__name__
    cases = {name: case for name, case in CASES.items() if settings(case.method)["_target_"].endswith(f".{kind}")}
    if not cases:
        raise NotApplicable("no run of its authors' code is recorded")
    largest = 0.0
    for name, case in cases.items():

        def make(model: nn.Module, base: Any, **options: Any) -> Any:
            return subject.make(model, base, **{key: options[key] for key in options if key in subject.takes})

        apart = deviation(name, load(name), make, subject.step)[0]
        if not apart <= case.tolerance:
            raise Broken(f"{name}: a weight differs by {apart:.1e}, {case.tolerance:.0e} is allowed")
        largest = max(largest, apart)
    return f"{len(cases)} recorded runs, largest difference {largest:.0e}: {', '.join(cases)}"

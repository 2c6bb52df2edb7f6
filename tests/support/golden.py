"""Golden trajectories: what the authors' code of each method does, weight by weight, on one tiny problem.

`golden.npz` beside this file holds some rows of each; the whole trajectories are used where they lie in
`$SAM_BENCH_GOLDEN` or `../shared/golden`. As a program this file prints docs/optimizers/golden.md.
"""

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sam_bench.optim import SharpnessAware, create_optimizer

FOLDER = Path(os.environ.get("SAM_BENCH_GOLDEN") or Path(__file__).parents[3] / "shared" / "golden")
PACKED = Path(__file__).with_name("golden.npz")
KEPT_STEPS = (1, 2, 6, 15, 30, 60)
EPOCH = 4  # steps in an epoch of the problem


@dataclass(frozen=True)
class Case:
    """A recorded run and the options that reproduce it; `micro` micro-batches per step."""

    method: str
    options: dict
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
    hp: dict
    steps: int
    w: dict[int, np.ndarray]
    info: dict[str, np.ndarray]
    source: str


@cache
def packed() -> dict[str, np.ndarray]:
    with np.load(PACKED) as stored:
        return dict(stored)


def load(name: str) -> Golden:
    """The run `name`: whole where the folder is there, else the packed rows."""
    if (FOLDER / f"{name}.npz").is_file():
        meta = json.loads((FOLDER / f"{name}.json").read_text())
        with np.load(FOLDER / f"{name}.npz") as stored:
            arrays = dict(stored)
        w = dict(enumerate(arrays.pop("w")))
    else:
        prefix = f"{name}/"
        arrays = {key.removeprefix(prefix): value for key, value in packed().items() if key.startswith(prefix)}
        meta = json.loads(str(arrays.pop("meta")))
        w = {int(key.removeprefix("w_")): arrays.pop(key) for key in list(arrays) if key.startswith("w_")}
    info = {key.removeprefix("info_"): value for key, value in arrays.items()}
    source = meta["impl"] + (f" {meta['commit'][:7]}" if "commit" in meta else "")
    return Golden(meta["base"], meta["hp"], len(info["n_forward"]), w, info, source)


def pack() -> None:
    """Write the packed file from the folder."""
    rows: dict[str, np.ndarray] = {}
    with np.load(FOLDER / "problem.npz") as stored:
        rows |= {f"problem/{key}": stored[key] for key in ("X", "Y", "w0")}
    for name in CASES:
        meta = json.loads((FOLDER / f"{name}.json").read_text())
        golden = load(name)
        rows[f"{name}/meta"] = np.array(json.dumps({k: meta[k] for k in ("impl", "commit", "base", "hp") if k in meta}))
        rows |= {f"{name}/w_{step}": golden.w[step] for step in KEPT_STEPS if step in golden.w}
        rows |= {
            f"{name}/info_{key}": golden.info[key] for key in ("n_forward", "u", "lr", "rho") if key in golden.info
        }
    np.savez_compressed(PACKED, **rows)


class Problem:
    """Linear(6,12) - tanh - Linear(12,3), cross-entropy, 64 samples in 4 batches, float64, never shuffled."""

    def __init__(self):
        stored = packed()
        self.X, self.Y = torch.tensor(stored["problem/X"]), torch.tensor(stored["problem/Y"])
        self.model = nn.Sequential()
        for name, module in (("fc1", nn.Linear(6, 12)), ("act", nn.Tanh()), ("fc2", nn.Linear(12, 3))):
            self.model.add_module(name, module)
        self.model.double()
        nn.utils.vector_to_parameters(torch.tensor(stored["problem/w0"]), self.model.parameters())

    def closure(self, step: int, micro: int = 1):
        rows = torch.arange(16 * (step % EPOCH), 16 * (step % EPOCH) + 16)

        def closure(index=None, backward=True):
            chosen = rows if index is None else rows[index]
            parts = []
            for part in chosen.chunk(micro):
                losses = nn.functional.cross_entropy(self.model(self.X[part]), self.Y[part], reduction="none")
                if backward:
                    (losses.sum() / len(chosen)).backward()
                parts.append(losses.detach())
            return torch.cat(parts)

        return closure, rows

    @property
    def w(self) -> np.ndarray:
        return nn.utils.parameters_to_vector(self.model.parameters()).detach().numpy().copy()


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


@cache
def deviation(name: str) -> tuple[float, SharpnessAware]:
    """Largest difference of any weight after any recorded step, and the optimizer at the end."""
    golden, case, problem = load(name), CASES[name], Problem()
    model = problem.model
    optimizer = create_optimizer(
        case.method, base_of(golden, model), model, steps_per_epoch=EPOCH, total_steps=golden.steps, **case.options
    )
    if "u" in golden.info:
        optimizer.draw = lambda step: golden.info["u"][step]
    largest = 0.0
    for step in range(golden.steps):
        if "lr" in golden.info:
            optimizer.param_groups[0] |= {"lr": golden.info["lr"][step], "rho": golden.info["rho"][step]}
        closure, rows = problem.closure(step, case.micro)
        optimizer.step(closure, samples=rows)
        if step + 1 in golden.w:
            largest = max(largest, abs(problem.w - golden.w[step + 1]).max())
    return largest, optimizer


def table() -> str:
    """The table of docs/optimizers/golden.md; a deviation below 1e-12 is rounding and printed as such."""
    lines = ["| recorded run | code | method | steps | largest deviation | tolerance |", "|---|---|---|--:|--:|--:|"]
    for name, case in CASES.items():
        golden, largest = load(name), deviation(name)[0]
        shown = "< 1e-12" if largest < 1e-12 else f"{largest:.0e}"
        lines.append(f"| {name} | {golden.source} | {case.method} | {golden.steps} | {shown} | {case.tolerance:.0e} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())

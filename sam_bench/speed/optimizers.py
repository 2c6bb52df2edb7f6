"""Measure what a method costs: the time of its step relative to the bare base optimizer, on one model and batch.

Arms are measured in turn (A B B A ...), numbers are medians over the turns. The ideal ratio is the number of
forward-backward passes per step; the overhead is what is measured beyond it. Every pass of a step draws the same
random numbers, so that a model with random depth does the same work in each. The floor is the passes per step, each
pass over a part of the batch at the cost that was measured for it.
"""

import argparse
import copy
import gc
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sam_bench.optim import SharpnessAware, create_optimizer
from sam_bench.speed import peers as against
from sam_bench.speed.parts import Pass, beyond_floor, measure_parts, report_parts, rows_of
from sam_bench.speed.shared import CLOCKS, add_shared, check_overrides
from sam_bench.speed.timing import conditions, prepare, ratios, show, spread, wait, where
from sam_bench.speed.workload import Workload, build_workload, configuration
from sam_bench.training import seeding

REQUIRED = ("erm", "sam", "looksam", "ae_sam", "ae_looksam", "graphsam", "vsam")
NEIGHBOURS = ("sam_every_k", "fsam", "asam", "gsam", "esam", "ausam", "msam", "sam_vi", "extrapolated_sgd")
BARE = "bare base"
WATCHED_STEPS = 7  # more than LookSAM's cycle


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `sam-bench speed optimizers`."""
    parser.add_argument("--model", default="grover", help="a file of configs/model, or mlp")
    parser.add_argument("--dataset", default="chembl2321810", help="molecules for a model that reads them")
    parser.add_argument("--base", default="adam", help="a file of configs/base")
    parser.add_argument("--optimizers", nargs="+", default=[*REQUIRED, *NEIGHBOURS], help="files of configs/optimizer")
    parser.add_argument("--against", choices=("pytorch_optimizer",), help="the same methods of this package, alongside")
    add_shared(parser, batch_size=32, steps=10, repeats=7, example="model.hidden=200 base.lr=1e-3")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure and print a Markdown table; the numbers, of each turn where there are several."""
    check_overrides(args.overrides, ("base",) if args.model == "mlp" else ("dataset", "model", "base"))
    device = prepare(args)
    seeding.seed_everything(0, deterministic=False)
    config = configuration(args)
    workload = build_workload(args, device, config)
    arms = build_arms(args, workload, config["base"])
    seconds = measure(arms, args)
    parts = measure_parts(workload, {kind for arm in arms.values() for turn in arm.turns for kind in turn}, args)
    bare, _ = extra_memory(arms[BARE])
    rows = []
    for name, arm in arms.items():
        if name != BARE and arm.skipped == 0:
            row = summary(name, arm, arms[BARE], seconds, bare)
            rows.append(row | beyond_floor(arm.turns, row["ratio"], args.steps, parts))
    for name in [name for name, arm in arms.items() if arm.skipped]:
        print(f"left out: {name} met a loss or gradient that is not finite and skipped {arms[name].skipped} steps")
    described = describe(args, workload, seconds)
    report(described, rows)
    partial_passes = rows_of(parts, workload.n)
    report_parts(partial_passes)
    return {"conditions": described, "rows": rows, "parts": partial_passes}


# -- what is trained -----------------------------------------------------------------------------------------------


class Arm:
    """One way to train a copy of the model: `step()` makes a step, `evals` counts passes."""

    def __init__(self, name: str, workload: Workload, make: Callable[[nn.Module], Any], drive: Callable):
        self.name, self.workload, self.make, self.drive = name, workload, make, drive
        self.passes: list[float] = []  # per step, of each turn
        self.turns: list[Counter[Pass]] = []  # what the calls of the closure were, of each turn
        self.kinds: Counter[Pass] = Counter()  # the same of the turn that runs
        self.outside: list[float] = []  # seconds of each turn that the closure did not take
        self.inside = 0.0  # seconds in the closure so far
        self.now = time.perf_counter
        self.model = copy.deepcopy(workload.model)
        self.optimizer = make(self.model)
        self.samples = torch.arange(workload.n)
        self.calls = self.steps = 0
        self.watch: Callable[[], None] | None = None

    def closure(self, index: Tensor | None = None, backward: bool = True) -> Tensor:
        """Forward and backward, with the random numbers of this step."""
        self.calls += 1
        self.kinds[Pass(self.workload.n if index is None else len(index), backward)] += 1
        if self.watch is not None:
            self.watch()
        start = self.now()
        torch.manual_seed(self.steps)
        losses = self.workload.losses(self.model, index)
        if backward:
            losses.mean().backward()
        self.inside += self.now() - start
        return losses.detach()

    def step(self) -> None:
        """One step."""
        self.drive(self)
        self.steps += 1

    @property
    def skipped(self) -> int:
        """Steps of one of our methods without an update, because something was not finite."""
        return self.optimizer.memory["skipped"] if isinstance(self.optimizer, SharpnessAware) else 0

    @property
    def evals(self) -> float:
        """Passes so far, parts of the batch counted as such."""
        return self.optimizer.memory["grad_evals"] if isinstance(self.optimizer, SharpnessAware) else self.calls


def _drive_bare(arm: Arm) -> None:
    arm.optimizer.zero_grad(set_to_none=True)
    arm.closure()
    arm.optimizer.step()


def _drive_ours(arm: Arm) -> None:
    arm.optimizer.step(arm.closure, samples=arm.samples)


def fitting(steps: int) -> dict[str, dict]:
    """Options of methods for turns of `steps` steps: windows as long, and a length at which the loss stays finite."""
    return {"vsam": {"K": steps, "M": max(1, steps // 2)}, "extrapolated_sgd": {"rho": 1e-4}}


def build_arms(args: argparse.Namespace, workload: Workload, base: Mapping[str, Any]) -> dict[str, Arm]:
    """The bare base with the options of its YAML and of --set, our methods and, if asked for, theirs."""
    options = {key: value for key, value in base.items() if key != "_target_"}
    total = args.steps * (args.repeats + 10)
    own = fitting(args.steps)

    def ours(name: str) -> Callable[[nn.Module], SharpnessAware]:
        return lambda model: create_optimizer(
            name, args.base, model, base_options=options, total_steps=total, steps_per_epoch=args.steps,
            **own.get(name, {}),
        )  # fmt: skip

    def bare(model: nn.Module) -> torch.optim.Optimizer:
        return create_optimizer("erm", args.base, model, base_options=options).base

    arms = {BARE: Arm(BARE, workload, bare, _drive_bare)}
    for name in args.optimizers:
        arms[name] = Arm(name, workload, ours(name), _drive_ours)
        if args.against and name in against.METHODS:
            arms[f"{name} ({args.against})"] = Arm(name, workload, *against.make_and_drive(name, bare))
    return arms


# -- measuring -------------------------------------------------------------------------------------------------------


def measure(arms: dict[str, Arm], args: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of `steps` steps of each arm, turn by turn; the passes per step of each turn go to `arm.passes`.

    On a CPU the arms change places after every step, so that a slow second of the machine affects all of them. A GPU
    must not wait between steps; there they change places after `steps` steps.
    """
    now, device = CLOCKS[args.clock], next(iter(arms.values())).workload.device
    for arm in arms.values():
        arm.now = now
        for _ in range(max(2, getattr(arm.optimizer, "warm_up", 0))):
            arm.step()
    at_once = args.steps if device.type == "cuda" else 1
    order = list(arms.values())
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(args.repeats):
        begun = {name: (arm.evals, arm.inside) for name, arm in arms.items()}
        spent = dict.fromkeys(order, 0.0)
        for arm in order:
            arm.kinds = Counter()
        for _ in range(args.steps // at_once):
            for arm in order:
                wait(device)
                start = now()
                for _ in range(at_once):
                    arm.step()
                wait(device)
                spent[arm] += now() - start
            order.reverse()
        for name, arm in arms.items():
            evals, inside = begun[name]
            seconds[name].append(spent[arm])
            arm.outside.append(spent[arm] - (arm.inside - inside))
            arm.passes.append((arm.evals - evals) / args.steps)
            arm.turns.append(arm.kinds)
    return seconds


def extra_memory(arm: Arm, bare: int = 0) -> tuple[int, float]:
    """Bytes of the tensors of a fresh twin of `arm` that are alive when a pass starts, the most over some steps.

    Under these come the activations. Also what they are beyond `bare`, in units of the weights.
    """
    around = _storages()
    gc.freeze()  # what there is already need not be looked through at every pass
    try:
        twin = Arm(arm.name, arm.workload, arm.make, arm.drive)
        most = 0

        def watch() -> None:
            nonlocal most
            most = max(most, sum(size for at, size in _storages().items() if at not in around))

        for step in range(getattr(twin.optimizer, "warm_up", 0) + WATCHED_STEPS):
            twin.watch = watch if step >= 1 else None
            twin.step()
    finally:
        gc.unfreeze()
    weights = sum(p.numel() * p.element_size() for p in arm.model.parameters())
    return most, (most - bare) / weights


def _storages() -> dict[int, int]:
    """Where the tensors lie that Python knows of, and how many bytes each has."""
    gc.collect()
    # By type, not isinstance: that would wake the deprecated objects of other modules.
    tensors = [o for o in gc.get_objects() if type(o) in (Tensor, nn.Parameter)]
    return {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}


# -- reporting -------------------------------------------------------------------------------------------------------


def summary(name: str, arm: Arm, bare: Arm, seconds: dict[str, list[float]], bare_bytes: int) -> dict[str, Any]:
    """The numbers of one arm; its own work is what it does outside the closure beyond what the bare base does."""
    measured = ratios(seconds, name, BARE)
    turns = zip(arm.outside, bare.outside, seconds[BARE], arm.passes, strict=True)
    on_cpu = arm.workload.device.type == "cpu"  # on a GPU the closure returns before its work is done
    return {
        "method": name,
        "passes_per_step": statistics.median(arm.passes),
        "ratio": measured,
        "overhead_percent": [100 * (r / passes - 1) for r, passes in zip(measured, arm.passes, strict=True)],
        "own_percent": [100 * (own - its) / (all_ * passes) for own, its, all_, passes in turns] if on_cpu else None,
        "extra_memory": extra_memory(arm, bare_bytes)[1],
    }


def describe(args: argparse.Namespace, workload: Workload, seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Where and how it was measured."""
    return {
        "model": workload.name,
        "parameters": workload.parameters,
        "batch_size": workload.n,
        "base": args.base,
        **conditions(workload.device),
        "clock": args.clock,
        "n": args.repeats,
        "steps": args.steps,
        "bare_milliseconds": 1000 * statistics.median(seconds[BARE]) / args.steps,
    }


def report(c: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """A line of conditions and a Markdown table."""
    print(
        f"{c['model']}, {c['parameters']:,} parameters, batch {c['batch_size']}, base {c['base']}: "
        f"{c['bare_milliseconds']:.1f} ms a step. {where(c)}; {c['clock']} clock, "
        f"n = {c['n']} turns of {c['steps']} steps, median (least - most)"
    )
    header = ["method", "passes per step", "time / bare base", "overhead, %", "floor", "beyond the floor, %",
              "own work, %", "extra memory / weights"]  # fmt: skip
    lines = [
        [row["method"], f"{row['passes_per_step']:.2f}", spread(row["ratio"]), spread(row["overhead_percent"], "+.1f"),
         f"{row['floor']:.2f}", spread(row["beyond_floor_percent"], "+.1f"),
         spread(row["own_percent"], "+.1f") if row["own_percent"] else "-", f"{row['extra_memory']:.2f}"]
        for row in rows
    ]  # fmt: skip
    show("Cost of a step", header, lines)

"""What an optimizer costs on this machine: its step beside that of the bare base, in turn."""

import argparse
import statistics
from typing import Any

import torch
from torch import nn

from sam_bench.contract.problem import BASES
from sam_bench.contract.subject import Subject
from sam_bench.optim import SharpnessAware
from sam_bench.optim.accumulation import accepts
from sam_bench.speed.optimizers import BARE, Arm, extra_memory, measure, summary
from sam_bench.speed.timing import conditions
from sam_bench.speed.workload import build_workload
from sam_bench.training import threads

REPEATS, STEPS, BATCH = 7, 6, 128


def _drive_bare(arm: Arm) -> None:
    arm.optimizer.zero_grad()
    arm.closure()
    arm.optimizer.step()


def _drive(arm: Arm) -> None:
    step = arm.optimizer.step
    if isinstance(arm.optimizer, SharpnessAware) or accepts(step, "samples"):
        step(arm.closure, samples=arm.samples)
    else:
        step(arm.closure)


def measured(subject: Subject) -> dict[str, Any]:
    """Passes, time over the bare base (Adam), overhead beyond the passes in percent, memory in units of the weights.

    Each list holds one number per turn. Empty for a plain torch optimizer, which is its own base.
    """
    if subject.plain:
        return {}
    torch.manual_seed(0)
    args = argparse.Namespace(model="mlp", batch_size=BATCH, steps=STEPS, repeats=REPEATS, clock="cpu")
    workload = build_workload(args, torch.device("cpu"))

    def bare(model: nn.Module) -> torch.optim.Optimizer:
        return BASES["adam"](model.parameters())

    def make(model: nn.Module) -> Any:
        return subject.make(model, "adam", **({"rho": 1e-3} if "rho" in subject.takes else {}))

    arms = {BARE: Arm(BARE, workload, bare, _drive_bare), subject.name: Arm(subject.name, workload, make, _drive)}
    with threads.using(1):  # processor time also counts what several threads spend waiting for each other
        seconds, where = measure(arms, args), conditions(torch.device("cpu"))
    row = summary(subject.name, arms[subject.name], arms[BARE], seconds, extra_memory(arms[BARE])[0])
    return {
        **{key: row[key] for key in ("passes_per_step", "ratio", "overhead_percent", "extra_memory")},
        "bare_milliseconds": 1000 * statistics.median(seconds[BARE]) / STEPS,
        "model": f"mlp, {workload.parameters:,} parameters, batch {BATCH}, base adam",
        "n": f"{REPEATS} turns of {STEPS} steps, processor time",
        **where,
    }

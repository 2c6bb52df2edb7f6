"""How costs are measured: arms in turn (A B A B ...) after a warm-up, ratios turn by turn, medians, Markdown tables."""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from sam_bench.datasets.task import Task
from sam_bench.errors import UsageError
from sam_bench.optim import create_optimizer
from sam_bench.options.run import Train
from sam_bench.speed.shared import CLOCKS
from sam_bench.training import provenance
from sam_bench.training.clock import Clock
from sam_bench.training.life import pick_device
from sam_bench.training.loop import Trainer
from sam_bench.training.lr_schedule import constant
from sam_bench.training.memory import keep_freed

Arms = Mapping[str, Callable[[], float | None]]  # an arm that has a clock of its own returns its seconds
Steps = Mapping[str, Callable[[int], None]]  # an arm whose steps are measured one by one


def prepare(args: argparse.Namespace) -> torch.device:
    """The device, after setting the requested threads; raises UsageError for numbers below 1."""
    if min(args.batch_size, args.steps, args.repeats) < 1:
        raise UsageError("--batch-size, --steps and --repeats must be at least 1.")
    device = pick_device(args.device)
    keep_freed()  # as a run does
    if args.clock == "cpu":
        if device.type != "cpu" or args.threads not in (None, 1):
            raise UsageError("--clock cpu counts one thread of a CPU: add --device cpu, and leave --threads out.")
        torch.set_num_threads(1)
    if args.threads:
        torch.set_num_threads(args.threads)
    return device


def conditions(device: torch.device) -> dict[str, Any]:
    """Where and when: machine, threads (None on a GPU), version of torch, date."""
    return {
        "machine": provenance.hardware(device)["name"],
        "threads": None if device.type == "cuda" else torch.get_num_threads(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def where(c: Mapping[str, Any]) -> str:
    """`conditions` as text."""
    threads = "" if c["threads"] is None else f", {c['threads']} thread(s)"
    return f"{c['machine']}{threads}, torch {c['torch']}, {c['date']}"


def clock(args: argparse.Namespace) -> Callable[[], float]:
    """The clock that `--clock` names."""
    return CLOCKS[args.clock]


def wait(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleave(arms: Arms, args: argparse.Namespace, device: torch.device, steps: Steps | None = None,
               count: int = 0) -> dict[str, list[float]]:  # fmt: skip
    """Seconds of each arm, `args.repeats` times in turn after one call of each to warm up; `count` calls of `steps`.

    On a CPU the arms of `steps` take turns after every step, so that a slow second of the machine affects all of them.
    A GPU must not wait between steps; there they take turns after `count` steps.
    """
    now = clock(args)

    def timed(call: Callable[[], float | None]) -> float:
        wait(device)
        start = now()
        told = call()
        wait(device)
        return now() - start if told is None else told

    def step_by_step(steps: Steps) -> dict[str, float]:
        spent = dict.fromkeys(steps, 0.0)
        for i in range(count):
            for name in reversed(list(steps)) if i % 2 else steps:
                spent[name] += timed(partial(steps[name], i))
        return spent

    steps, turns = dict(steps or {}), []
    for _ in range(args.repeats + 1):
        if device.type == "cuda":
            turn = {name: timed(partial(repeat_steps, call, count)) for name, call in steps.items()}
        else:
            turn = step_by_step(steps)
        turns.append(turn | {name: timed(call) for name, call in arms.items()})
    return {name: [turn[name] for turn in turns[1:]] for name in turns[0]}


def repeat_steps(step: Callable[[int], None], count: int) -> None:
    """The steps 0 to `count` - 1."""
    for i in range(count):
        step(i)


def kernel_seconds(call: Callable[[], object], device: torch.device) -> float:
    """Seconds that a CUDA device computes in one `call`: the sum of its kernels and copies, one after another."""
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        call()
        wait(device)
    return sum(event.self_device_time_total for event in seen.key_averages()) / 1e6


def whole_loop(model: nn.Module, base: torch.optim.Optimizer, task: Task, args: argparse.Namespace,
               device: torch.device) -> float:  # fmt: skip
    """One epoch of a run: the seconds of its training clock, which stops during evaluation."""
    options = Train(
        epochs=1, max_steps=None, budget="epochs", seconds=None, batch_size=args.batch_size, eval_batch_size=2,
        drop_last=False, clip_norm=None, label_smoothing=0.0, patience=None, eval_every=1, checkpoint_seconds=1e9,
    )  # fmt: skip
    method = create_optimizer("erm", base, model)
    trainer = Trainer(task, model, method, constant, options, seed=0, precision=args.precision, device=device)
    trainer.clock = Clock(device, clock(args))
    trainer.fit(save=_ignore, report=_ignore, stop=lambda: False, log=_ignore)
    return trainer.clock.seconds["train"]


def _ignore(_: dict) -> None:
    pass


def ratios(seconds: Mapping[str, list[float]], arm: str, to: str) -> list[float]:
    """Time of `arm` over time of `to`, turn by turn."""
    return [one / other for one, other in zip(seconds[arm], seconds[to], strict=True)]


def spread(values: list[float], form: str = ".3f") -> str:
    """Median (least - most)."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} - {max(values):{form}})"


def show(title: str, header: list[str], rows: list[list[str]]) -> None:
    """A Markdown table."""
    print(f"\n{title}\n\n| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")

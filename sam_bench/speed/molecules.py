"""What molecules cost: reading them, batches alone, forward-backward alone, the full step of each method.

Arms are measured in turn (A B A B ...) on the same batches of a data set, on a CPU step by step; numbers are medians of
turns. The largest rate of matrix products of this machine is measured in the same turns. Random depth draws the same
numbers in every arm.
"""

import argparse
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sam_bench.config import build, compose
from sam_bench.datasets.task import Task
from sam_bench.errors import UsageError
from sam_bench.optim import create_optimizer
from sam_bench.speed.against import arm_name, foreign_step
from sam_bench.speed.optimizers import fitting
from sam_bench.speed.reading import reading
from sam_bench.speed.shared import add_shared, check_overrides
from sam_bench.speed.timing import (
    Arms,
    conditions,
    interleave,
    kernel_seconds,
    prepare,
    ratios,
    repeat_steps,
    show,
    spread,
    where,
    whole_loop,
)
from sam_bench.store import places
from sam_bench.training import seeding

BATCHING, PASS, LOOP, PRODUCT, BASE = (
    "batches alone",
    "forward-backward alone",
    "training loop",
    "matrix product",
    "erm",
)
OPTIMIZERS = ("sam", "looksam", "graphsam")
PARTS = ("reading", "step")
SIDE = {"cpu": 1024, "cuda": 8192}  # of the square matrices of the product
PRODUCTS = 20
ADDED = (torch.ops.aten.addmm_, torch.ops.aten.baddbmm_)  # products added to a sum, which torch's counter leaves out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `sam-bench speed molecules`."""
    add = parser.add_argument
    add("--dataset", default="bbbp", help="a file of configs/dataset")
    add("--model", default="grover", help="a file of configs/model")
    add("--base", default="adam", help="a file of configs/base")
    add("--optimizers", nargs="*", default=list(OPTIMIZERS), help="files of configs/optimizer, beside erm")
    add("--precision", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    add("--against", metavar="DIR", help="a checkout of the authors' code whose file sam_bench_step.py makes its step")
    add(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), help="reading: the molecules, in a process of its own"
    )
    add_shared(parser, batch_size=32, steps=50, repeats=5, example="model.hidden=200 dataset.verify=false base.lr=1e-3")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure all that was asked for, print Markdown tables; `molecules_per_second` is erm's in the first precision."""
    check_overrides(args.overrides, ("dataset", "model", "base", "split_seed"))
    if args.against and "step" not in args.parts:
        raise UsageError("--against compares steps: leave --parts reading out.")
    device = prepare(args)
    words = [f"model={args.model}", f"dataset={args.dataset}", f"base={args.base}", *args.overrides]
    config = compose.compose_specs(words)[0].config
    if config["model"].get("kernels") == "native" and "bf16" in args.precision:
        raise UsageError("model.kernels=native computes in fp32: add --precision fp32.")
    if config["dataset"]["modality"] != "molecule":
        raise UsageError(f"{args.dataset} holds {config['dataset']['modality']}s; see `sam-bench speed images`.")
    task = build.build_task(config, places.data_dir())
    found: dict[str, Any] = {"conditions": setting(args, config, task, device)}
    print(describe(found["conditions"]))
    if "reading" in args.parts:
        found["reading"] = reading(config, args.dataset)
    if "step" in args.parts:
        work = Work(args, config, task.to(device), device)
        found["gigaflop_per_molecule"] = work.flops / work.molecules / 1e9
        found["steps"] = {precision: steps(work, precision) for precision in args.precision}
        found["molecules_per_second"] = found["steps"][args.precision[0]]["molecules_per_second"][BASE]["median"]
    return found


def setting(args: argparse.Namespace, config: Mapping, task: Task, device: torch.device) -> dict[str, Any]:
    """Where and how it is measured."""
    return {
        "dataset": args.dataset,
        "molecules": len(task.targets),
        "model": {key: value for key, value in config["model"].items() if key != "_target_"},
        "parameters": sum(p.numel() for p in build.build_model(config, task).parameters()),
        "batch_size": args.batch_size,
        "base": args.base,
        **conditions(device),
        "clock": args.clock,
        "steps": args.steps,
        "n": args.repeats,
    }


def describe(c: Mapping[str, Any]) -> str:
    """The line above the tables."""
    return (
        f"{c['dataset']}, {c['molecules']:,} molecules; {c['parameters']:,} parameters; batch {c['batch_size']}; base "
        f"{c['base']}. {where(c)}; {c['clock']} clock, n = {c['n']} in turn, median (least - most)"
    )


# -- steps ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """The batches that every arm goes through, and the model that every arm has a copy of."""

    args: argparse.Namespace
    config: Mapping
    task: Task
    device: torch.device

    @cached_property
    def batches(self) -> Sequence[torch.Tensor]:
        """Indices of each batch, all full."""
        whole = [b for b in self.task.splits["train"].split(self.args.batch_size) if len(b) == self.args.batch_size]
        if not whole:
            train = len(self.task.splits["train"])
            raise UsageError(f"--batch-size {self.args.batch_size}: there are {train} molecules to train on.")
        return whole[: self.args.steps]

    @property
    def molecules(self) -> int:
        """Molecules of one turn."""
        return len(self.batches) * self.args.batch_size

    @cached_property
    def ready(self) -> list:
        """The batches with everything in them that the model reads."""
        batches = [self.task.collate(index, train=True) for index in self.batches]
        model = self.model()
        with torch.no_grad():
            for batch in batches:
                model(batch)
        return batches

    def model(self) -> nn.Module:
        """The model with its first weights, in training mode."""
        seeding.seed_everything(0, deterministic=False)
        return build.build_model(self.config, self.task).to(self.device).train()

    def pass_(self, model: nn.Module, number: int, batch: Any, precision: str) -> torch.Tensor:
        """Forward and backward of one batch with the random numbers of this step."""
        torch.manual_seed(number)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16"):
            output = model(batch)
        losses = self.task.loss(output, batch, getattr(model, "penalty", None))
        losses.mean().backward()
        return losses.detach()

    def alone(self, model: nn.Module, precision: str) -> Callable[[int], None]:
        """Forward and backward of a batch that is ready."""

        def step(number: int) -> None:
            model.zero_grad(set_to_none=True)
            self.pass_(model, number, self.ready[number], precision)

        return step

    @cached_property
    def flops(self) -> int:
        """Operations of the products of one turn of forward and backward; sums over neighbours are not counted.

        They are those of torch: no counter sees into the C++ of model.kernels=native.
        """
        kernels = {"kernels": "torch"} if "kernels" in self.config["model"] else {}
        plain = replace(self, config={**self.config, "model": {**self.config["model"], **kernels}})
        call = plain.alone(plain.model(), "fp32")
        count = len(plain.ready)  # made here: its passes are not to be counted
        with counter() as counted:
            repeat_steps(call, count)
        return counted.get_total_flops()

    def batching(self) -> None:
        """All batches again, with everything in them that the model reads."""
        for index, batch in zip(self.batches, self.ready, strict=True):
            again = self.task.collate(index, train=True)
            for name in batch.__dict__.keys() - again.__dict__.keys():
                getattr(again, name)

    def method(self, name: str, precision: str) -> Callable[[int], None]:
        """The full step of a method over the base: batch, passes, update."""
        model, epoch = self.model(), len(self.batches)
        total = epoch * (self.args.repeats + 1)
        options = {"total_steps": total, "steps_per_epoch": epoch} | fitting(epoch).get(name, {})
        method = create_optimizer(name, self.args.base, model, base_options=self.base_options, **options)

        def step(number: int) -> None:
            index = self.batches[number]
            batch = self.task.collate(index, train=True)

            def closure(index: torch.Tensor | None = None) -> torch.Tensor:
                return self.pass_(model, number, batch if index is None else batch.select(index), precision)

            method.step(closure, samples=index)

        return step

    @property
    def base_options(self) -> dict[str, Any]:
        """Of the base, as `--set` has them."""
        return {key: value for key, value in self.config["base"].items() if key != "_target_"}

    def loop(self, precision: str) -> Callable[[], float]:
        """An epoch of the loop of `sam-bench run` on the same molecules."""
        few = {name: index[:2] for name, index in self.task.splits.items()}
        task = replace(self.task, splits=few | {"train": torch.cat(list(self.batches))}, split_sha256="")
        args = argparse.Namespace(**{**vars(self.args), "precision": precision})
        model = self.model()
        base = create_optimizer(BASE, self.args.base, model, base_options=self.base_options).base
        return partial(whole_loop, model, base, task, args, self.device)


def steps(work: Work, precision: str) -> dict[str, Any]:
    """Rates of all arms in one precision, the largest rate of products, and the share of it that the step reaches."""
    side = SIDE[work.device.type]
    matrix = torch.randn(side, side, device=work.device, dtype=torch.bfloat16 if precision == "bf16" else None)
    names = [BASE, *(name for name in work.args.optimizers if name != BASE)]
    stepped = {name: work.method(name, precision) for name in names} | {PASS: work.alone(work.model(), precision)}
    their = arm_name(work.args.against) if work.args.against else None
    if their:
        stepped[their] = foreign_step(work.args.against, work.config, work.task, work.batches)
    arms: Arms = {BATCHING: work.batching, LOOP: work.loop(precision), PRODUCT: partial(_products, matrix)}
    count = len(work.batches)
    seconds = interleave(arms, work.args, work.device, stepped, count)
    peak = [PRODUCTS * 2 * side**3 / s / 1e9 for s in seconds.pop(PRODUCT)]
    reached = [work.flops / s / 1e9 / p for s, p in zip(seconds[BASE], peak, strict=True)]
    rates = {name: [work.molecules / s for s in values] for name, values in seconds.items()}
    relative = {name: ratios(seconds, name, BASE) for name in seconds}
    rows = [[name, spread(rates[name], ",.0f"), spread(relative[name])] for name in seconds]
    show(f"Steps, {precision}", ["arm", "molecules/s", f"time / {BASE}"], rows)
    print(
        f"\nmatrix product {spread(peak, ',.0f')} GFLOP/s; {BASE} reaches {spread(reached)} of it, "
        f"at {work.flops / work.molecules / 1e9:.3f} GFLOP per molecule and step"
    )
    found = {
        "molecules_per_second": {name: _told(values) for name, values in rates.items()},
        "time_over_erm": {name: _told(values) for name, values in relative.items()},
        "peak_gflop_per_second": _told(peak),
        "share_of_peak": _told(reached),
    }
    if their:
        faster = ratios(seconds, their, BASE)
        found["times_as_fast"] = _told(faster)
        print(f"{BASE}, {precision}, is {spread(faster, '.2f')} times as fast as {their} as it runs")
    if work.device.type == "cuda":
        busy = kernel_seconds(partial(repeat_steps, stepped[BASE], count), work.device)
        found["launch_bound_share"] = max(0.0, 1 - busy / statistics.median(seconds[BASE]))
        print(f"{BASE}: the GPU waits for the next launch in {found['launch_bound_share']:.3f} of the step")
    return found


def counter() -> FlopCounterMode:
    """A counter of the operations of products, also of those that are added to a sum in place."""
    return FlopCounterMode(display=False, custom_mapping=dict.fromkeys(ADDED, _of_product))


def _of_product(total: list[int], a: list[int], b: list[int], **ignored: Any) -> int:
    """Operations of total += a @ b, by the shapes."""
    return 2 * math.prod(a) * b[-1]


def _products(matrix: torch.Tensor) -> None:
    for _ in range(PRODUCTS):
        torch.mm(matrix, matrix)


def _told(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "n": len(values)}

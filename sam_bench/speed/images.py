"""Measure training on images: augmentation, a bare step, the whole loop; precision, memory format, compilation.

Arms are measured in turn (A B A B ...) after a warm-up, on random 32x32 images of 100 classes; numbers are medians.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from sam_bench.config import build, compose
from sam_bench.datasets.images.arrays import ImageBatch, Images
from sam_bench.datasets.images.augment import Augment
from sam_bench.datasets.task import Task
from sam_bench.errors import UsageError
from sam_bench.optim import create_optimizer
from sam_bench.speed.shared import add_shared, check_overrides
from sam_bench.speed.timing import (
    Arms,
    clock,
    conditions,
    interleave,
    prepare,
    ratios,
    show,
    spread,
    wait,
    where,
    whole_loop,
)
from sam_bench.training import compiled, seeding

Rates = dict[str, list[float]]
AUGMENTATIONS: dict[str, dict] = {
    "normalise only": {},
    "flip, crop": {"flip": True, "pad": 4},
    "flip, crop, cutout": {"flip": True, "pad": 4, "cutout": 16},
    "flip, crop, RandAugment": {"flip": True, "pad": 4, "randaugment": {"operations": 2, "magnitude": 9}},
}
USUAL = "flip, crop, cutout"
PARTS = ("augmentation", "loop", "options", "compile")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `sam-bench speed images`."""
    parser.add_argument("--models", nargs="+", default=["fastnet_tiny", "wrn16_4"], help="files of configs/model")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the loop")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS[:3]), help="compile takes minutes")
    add_shared(parser, batch_size=128, steps=5, repeats=7, example="model.dropout=0.1")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure and print Markdown tables; returns images per second of each arm, one number per turn."""
    check_overrides(args.overrides, ("model",))
    device = prepare(args)
    seeding.seed_everything(0, deterministic=False)
    here = conditions(device)
    print(
        f"{where(here)}; batch {args.batch_size}, {args.steps} steps per measurement, n = {args.repeats} in turn, "
        f"median (least - most){', CPU seconds' if args.clock == 'cpu' else ''}"
    )
    asked = {name: getattr(args, name) for name in ("batch_size", "steps", "precision", "clock")}
    found: dict[str, Any] = {"conditions": here | asked | {"n": args.repeats}}
    if "augmentation" in args.parts:
        found["augmentation"] = augmentation(args, device)
    for name in args.models:
        model, task = _model(name, args, device)
        if "loop" in args.parts:
            found.setdefault("loop", {})[name] = loop(name, model, task, args, device)
        if {"options", "compile"} & set(args.parts):
            found.setdefault("options", {})[name] = options(name, model, task, args, device)
    return found


def _images(n: int, augment: Mapping) -> Images:
    raw = np.random.default_rng(0).integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
    return Images.pack(raw, [0.5] * 3, [0.25] * 3, Augment.from_options(augment))


def _model(name: str, args: argparse.Namespace, device: torch.device) -> tuple[nn.Module, Task]:
    """A model of configs/model and a task of exactly `steps` batches of random images."""
    config = compose.unpaired([f"model={name}", *args.overrides])["model"]
    accepts = config.get("accepts") or ["nothing"]
    if "image" not in accepts:
        raise UsageError(f"{name} reads {' and '.join(accepts)}, not images.")
    n = args.steps * args.batch_size
    task = Task(
        name="random", modality="image", kind="multiclass", num_outputs=100, metric="accuracy",
        inputs={"channels": 3, "size": 32}, source=_images(n + 4, AUGMENTATIONS[USUAL]),
        targets=torch.randint(0, 100, (n + 4,), generator=torch.Generator().manual_seed(0)),
        splits=dict(zip(("train", "valid", "test"), torch.arange(n + 4).split([n, 2, 2]), strict=True)),
        data_sha256="", verified=False,
    )  # fmt: skip
    return build.build_model({"model": config}, task).to(device), task.to(device)


def augmentation(args: argparse.Namespace, device: torch.device) -> Rates:
    """Making batches, for each recipe of augmentation."""
    generator = torch.Generator(device).manual_seed(0)
    images = _images(20_000, {}).to(device)
    index = torch.randint(0, len(images), (args.batch_size,), generator=generator, device=device)
    arms = {}
    for name, options in AUGMENTATIONS.items():
        source = replace(images, augment=Augment.from_options(options))
        arms[name] = partial(_repeat, args.steps, partial(source.collate, index, train=True, generator=generator))
    seconds = interleave(arms, args, device)
    rates = _rates(seconds, args)
    show("Augmentation alone", ["recipe", "images/s"], [[name, spread(r, ",.0f")] for name, r in rates.items()])
    return rates


def _rates(seconds: Mapping[str, list[float]], args: argparse.Namespace) -> Rates:
    """Images per second of each arm, turn by turn."""
    n = args.steps * args.batch_size
    return {name: [n / s for s in values] for name, values in seconds.items()}


def _repeat(times: int, call: Callable[[], object]) -> None:
    for _ in range(times):
        call()


def step(model: nn.Module, base: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor, autocast: Callable) -> None:
    """The bare step: forward, backward, update."""
    base.zero_grad(set_to_none=True)
    with autocast():
        output = model(ImageBatch(x))
    F.cross_entropy(output.float(), y).backward()
    base.step()


def _autocast(device: torch.device, precision: str) -> Callable:
    return partial(torch.autocast, device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def loop(name: str, model: nn.Module, task: Task, args: argparse.Namespace, device: torch.device) -> Rates:
    """The bare step; the step after augmentation; the step through ERM's mechanism; the whole loop of a run."""
    autocast = _autocast(device, args.precision)
    base = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    method = create_optimizer("erm", base, model)
    generator = torch.Generator(device).manual_seed(0)
    batches = task.splits["train"].split(args.batch_size)
    fixed = [cast(ImageBatch, task.collate(index)) for index in batches]
    ready = [(batch.x, cast(torch.Tensor, batch.y)) for batch in fixed]

    def bare() -> None:
        for x, y in ready:
            step(model, base, x, y, autocast)

    def augment() -> None:
        for index in batches:
            task.collate(index, train=True, generator=generator)

    def mechanism() -> None:
        base.zero_grad(set_to_none=True)  # those of the bare step
        for batch in fixed:
            method.step(partial(_closure, model, task, batch, autocast))

    arms: Arms = {"bare step": bare, "augmentation": augment, "step through ERM": mechanism,
            "whole loop": partial(whole_loop, model, base, task, args, device)}  # fmt: skip
    seconds = interleave(arms, args, device)
    rest = [whole - alone for whole, alone in zip(seconds["whole loop"], seconds["augmentation"], strict=True)]
    seconds["whole loop less augmentation"] = rest
    rates = _rates(seconds, args)
    rows = [[arm, spread(r, ",.0f"), spread(ratios(seconds, arm, "bare step"))] for arm, r in rates.items()]
    show(f"Loop, {name}, {args.precision} ({USUAL})", ["arm", "images/s", "time / bare step"], rows)
    return rates


def _closure(model: nn.Module, task: Task, batch, autocast: Callable) -> torch.Tensor:
    with autocast():
        output = model(batch)
    losses = task.loss(output, batch)
    losses.mean().backward()
    return losses.detach()


def options(name: str, model: nn.Module, task: Task, args: argparse.Namespace, device: torch.device) -> Rates:
    """The bare step by precision, memory format and compilation."""
    batch = cast(ImageBatch, task.collate(task.splits["train"][: args.batch_size]))
    y = cast(torch.Tensor, batch.y)
    formats = {"channels first": batch.x.contiguous(), "channels last": batch.x}
    base = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    arms = {}
    for precision in ("fp32", "bf16"):
        for layout, x in formats.items():
            call = partial(step, model, base, x, y, _autocast(device, precision))
            arms[f"{precision}, {layout}"] = partial(_repeat, args.steps, call)
    if "compile" in args.parts:
        if obstacle := compiled.obstacle(device):
            raise UsageError(f"--parts compile: {obstacle}.")
        passes = compiled.Compiled(model, args.batch_size, deterministic=False)
        for precision in ("fp32", "bf16"):
            call = partial(step, passes, base, batch.x, y, _autocast(device, precision))
            arms[f"{precision}, channels last, compiled"] = partial(_repeat, args.steps, call)
            print(f"\nFirst step of {name}, {precision}, compiled anew: {_first(call, args, device):.0f} s (n = 1)")
    seconds = interleave(arms, args, device)
    first, rates = next(iter(arms)), _rates(seconds, args)
    rows = [[arm, spread(r, ",.0f"), spread(ratios(seconds, first, arm), ".2f")] for arm, r in rates.items()]
    show(f"Step, {name}", ["arm", "images/s", f"times as fast as {first}"], rows)
    return rates


def _first(call: Callable[[], None], args: argparse.Namespace, device: torch.device) -> float:
    """Seconds of a call that compiles, with an empty cache of compiled code."""
    name, now = "TORCHINDUCTOR_CACHE_DIR", clock(args)
    before = os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as empty:
        os.environ[name] = empty
        try:
            start = now()
            call()
            wait(device)
            return now() - start
        finally:
            del os.environ[name]
            if before is not None:
                os.environ[name] = before

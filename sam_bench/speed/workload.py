"""The model, batch and closure for measuring the cost of a method."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_bench.config import build, compose, files
from sam_bench.store import places


@dataclass(frozen=True)
class Workload:
    """A model and one batch of `n` samples for it; `losses(model, index)` are the losses of some of them (k,)."""

    name: str
    model: nn.Module
    n: int
    losses: Callable[[nn.Module, Tensor | None], Tensor]
    device: torch.device

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(p.numel() for p in self.model.parameters())


def configuration(args: argparse.Namespace) -> Mapping[str, Any]:
    """The configuration of the command line; raises UsageError for unknown or conflicting options."""
    words = [f"dataset={args.dataset}", f"base={args.base}", *args.overrides]
    if args.model == "mlp":
        return compose.unpaired(words)
    accepts = files.read_component("model", args.model, also=["mlp"]).get("accepts") or []
    words.insert(0, f"model={args.model}")
    if "image" in accepts:  # the images are random
        return compose.unpaired(words)
    return compose.compose_specs(words)[0].config


def build_workload(args: argparse.Namespace, device: torch.device, config: Mapping[str, Any] | None = None) -> Workload:
    """The model of a `configuration`, which the model `mlp` does not need."""
    if args.model == "mlp":
        model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
        return _random_classes("mlp", model, torch.randn(args.batch_size, 256), lambda x: x, device)
    config = configuration(args) if config is None else config
    if "image" in (config["model"].get("accepts") or []):
        images = SimpleNamespace(num_outputs=10, inputs={"channels": 3, "size": 32})
        model = build.build_model(config, images)
        return _random_classes(
            args.model, model, torch.randn(args.batch_size, 3, 32, 32), lambda x: SimpleNamespace(x=x), device
        )
    return _molecules(args, device, config)


def _random_classes(
    name: str, model: nn.Module, x: Tensor, as_batch: Callable[[Tensor], Any], device: torch.device
) -> Workload:
    x, y = x.to(device), torch.randint(0, 10, (len(x),)).to(device)

    def losses(model: nn.Module, index: Tensor | None) -> Tensor:
        part, classes = (x, y) if index is None else (x[index], y[index])
        return F.cross_entropy(model(as_batch(part)), classes, reduction="none")

    return Workload(name, model.to(device), len(x), losses, device)


def _molecules(args: argparse.Namespace, device: torch.device, config: Mapping[str, Any]) -> Workload:
    task = build.build_task(config, places.data_dir()).to(device)
    batch = task.collate(task.splits["train"][: args.batch_size])
    model = build.build_model(config, task).to(device)

    def losses(model: nn.Module, index: Tensor | None) -> Tensor:
        part = batch if index is None else batch.select(index)
        return cast(Tensor, task.loss(model(part), part, getattr(model, "penalty", None)))

    return Workload(args.model, model, len(batch), losses, device)

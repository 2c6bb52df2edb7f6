"""A model under check: how it is made, and the task whose first samples it is checked on."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sam_bench.api import Batch
from sam_bench.datasets.task import Task

SAMPLES = 8


@dataclass(frozen=True)
class ModelSubject:
    """A model and a task that it can read. `make()` builds it from torch's global generator."""

    name: str
    make: Callable[[], nn.Module]
    task: Task
    renumbered: tuple[Tensor, Batch] | None = None  # the samples, and a batch of them with the atoms in another order
    samples: Tensor = field(init=False)

    def __post_init__(self) -> None:
        if len(self.task.splits["train"]) < SAMPLES:
            raise ValueError(f"the task needs {SAMPLES} samples to train on")
        object.__setattr__(self, "samples", self.task.splits["train"][:SAMPLES])

    def built(self, seed: int = 0) -> nn.Module:
        """The model with the weights that this seed draws, in training mode."""
        torch.manual_seed(seed)
        return self.make().train()

    def moved(self) -> nn.Module:
        """The model after two steps, when no gain or bias is still 0 or 1, where it could hide a mistake."""
        model = self.built()
        base = torch.optim.SGD(model.parameters(), lr=1e-3)
        for step in range(2):
            base.zero_grad()
            torch.manual_seed(step)
            torch.autograd.backward(self.loss(model))
            base.step()
        base.zero_grad()
        return model

    def batch(self, samples: Tensor | None = None) -> Batch:
        """The batch of these samples, without augmentation."""
        return self.task.collate(self.samples if samples is None else samples)

    def loss(self, model: nn.Module) -> Tensor:
        """The training loss of the samples, a scalar."""
        batch = self.batch()
        return self.task.loss(model(batch), batch, getattr(model, "penalty", None)).mean()

    def outputs(self, model: nn.Module, samples: Tensor | None = None, batch: Batch | None = None) -> Tensor:
        """Outputs in evaluation mode, (n, heads * outputs): samples first."""
        model.eval()
        with torch.no_grad():
            output: Tensor = model(self.batch(samples) if batch is None else batch).float()
        return output if output.dim() == 2 else output.transpose(0, 1).flatten(1)


def of_config(config: Mapping[str, Any], name: str, data_dir: Path) -> ModelSubject:
    """The model and the data set of a resolved configuration."""
    from sam_bench.config.build import build_model, build_task

    task = build_task(config, data_dir)
    make = partial(build_model, config, task)
    return ModelSubject(name, make, task, _renumbered(task, config) if task.modality == "molecule" else None)


def _renumbered(task: Task, config: Mapping[str, Any]) -> tuple[Tensor, Batch] | None:
    """Some molecules with their atoms reversed. Molecules with stereo marks are left out: these depend on the order."""
    from sam_bench.datasets.molecules.alike import renumbered
    from sam_bench.datasets.molecules.assemble import Molecules
    from sam_bench.datasets.molecules.batch import MoleculeBatch
    from sam_bench.datasets.molecules.featurize import featurize

    source, options = task.source, config["dataset"]
    if not isinstance(source, Molecules):
        return None
    chosen = [i for i in task.splits["train"].tolist() if not {*source.smiles[i]} & {*"@/\\"}][:SAMPLES]
    if not chosen or "features" not in options:
        return None
    packed = featurize(renumbered(source.smiles[i] for i in chosen), cache_dir=None, features=options["features"],
                       descriptors=False, progress=False)  # fmt: skip
    samples = torch.tensor(chosen)
    packed.descriptors = None if (own := source.packed.descriptors) is None else own[samples]
    return samples, MoleculeBatch(packed, torch.arange(len(chosen)))


def measured(subject: ModelSubject, repeats: int = 5) -> dict[str, Any]:
    """Number of weights, memory that a pass keeps for its backward, and milliseconds of both (median of `repeats`)."""
    model, seconds = subject.built(), []
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        torch.autograd.backward(subject.loss(model))
    for _ in range(repeats):
        start = time.process_time()
        torch.autograd.backward(subject.loss(model))
        seconds.append(time.process_time() - start)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "kept_for_backward_bytes": sum(kept.values()),
        "pass_milliseconds": 1000 * statistics.median(seconds),
        "samples": SAMPLES,
        "n": f"{repeats} passes, processor time",
    }

"""A data set as training sees it: splits, batches, loss, prediction and metric."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam_bench import metrics
from sam_bench.api import Batch
from sam_bench.datasets.split import checksum
from sam_bench.errors import UsageError

KINDS = ("regression", "binary", "multiclass")
Penalty = Callable[[Tensor], Tensor]


class Source(Protocol):
    """All inputs of a data set, packed in tensors; makes batches (without `y`) by indexing."""

    def __len__(self) -> int: ...
    def collate(self, index: Tensor, *, train: bool, generator: torch.Generator | None) -> Batch: ...
    def to(self, device: torch.device | str) -> "Source": ...


@dataclass
class Task:
    """What a data set asks of a model; raises ValueError if its parts contradict each other.

    `targets` is (N, num_outputs) float32 with NaN = missing, or (N,) int64 for multiclass. Regression targets are
    standardised with mean and standard deviation of the train split (each (num_outputs,)). The loss is in standardised
    units, a prediction in those of the target.
    """

    name: str
    modality: str
    kind: str
    num_outputs: int
    metric: str
    inputs: dict[str, int]
    source: Source
    targets: Tensor
    splits: dict[str, Tensor]
    data_sha256: str
    verified: bool
    notes: tuple[str, ...] = ()
    target_names: tuple[str, ...] = ()
    evaluate: Callable[[np.ndarray, np.ndarray], tuple[float, list[str]]] | None = None  # instead of our own metric
    split_sha256: str = ""
    mean: Tensor | None = None
    std: Tensor | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.name}: kind is {self.kind!r}, not one of {KINDS}")
        metrics.check(self.metric, self.kind)
        if tuple(self.splits) != ("train", "valid", "test"):
            raise ValueError(f"{self.name}: splits are {tuple(self.splits)}, not train, valid, test")
        if len(self.targets) != len(self.source):
            raise ValueError(f"{self.name}: {len(self.targets)} targets for {len(self.source)} samples")
        self._check_targets()
        if empty := [name for name, index in self.splits.items() if len(index) == 0]:
            raise UsageError(f"{self.name}: nothing is left for {empty}; change dataset.fractions or dataset.split.")
        self.split_sha256 = self.split_sha256 or checksum(self.splits)
        if self.kind == "regression" and self.mean is None:
            self.mean, self.std = _mean_std(self.targets[self.splits["train"]])

    def _check_targets(self) -> None:
        shape, dtype = tuple(self.targets.shape), self.targets.dtype
        if self.kind == "multiclass":
            right, wanted = len(shape) == 1 and dtype == torch.int64, "(N,) int64, the numbers of the classes"
        else:
            right = len(shape) == 2 and shape[1] == self.num_outputs and dtype.is_floating_point
            wanted = f"(N, num_outputs) = (N, {self.num_outputs}) float32, NaN where a label is missing"
        if not right:
            raise ValueError(f"{self.name}: targets are {shape} {dtype}; {self.kind} needs {wanted}")

    def to(self, device: torch.device | str) -> "Task":
        """The same task on `device`; the splits stay on the CPU, so that batch sizes are known without waiting."""
        mean, std = (None if moment is None else moment.to(device) for moment in (self.mean, self.std))
        return replace(self, source=self.source.to(device), targets=self.targets.to(device), mean=mean, std=std)

    def collate(self, index: Tensor, *, train: bool = False, generator: torch.Generator | None = None) -> Batch:
        """The batch of samples `index` (n,), on the task's device; augmented with `generator` if `train`."""
        batch = self.source.collate(index, train=train, generator=generator)
        batch.y = self.targets[index.to(self.targets.device, non_blocking=True)]
        return batch

    def loss(
        self, output: Tensor, batch: Batch, penalty: Penalty | None = None, label_smoothing: float = 0.0
    ) -> Tensor:
        """Loss per sample (n,), whose mean is the batch's loss; output is (n, num_outputs) or (heads, n, num_outputs).

        The losses of the heads are added. `penalty` is what the model adds: (heads, n, num_outputs) ->
        (n, num_outputs). Missing labels have no weight: the mean is over the labels that exist. Raises UsageError for
        an output of another shape.
        """
        assert batch.y is not None  # `collate` has set it
        labels = batch.y
        heads = output if output.dim() == 3 else output[None]
        if tuple(heads.shape[1:]) != (len(labels), self.num_outputs):  # (n,) against (n, 1) would become (n, n)
            raise UsageError(
                f"the model returned {tuple(output.shape)}: {self.name} needs (n, num_outputs) = "
                f"({len(labels)}, {self.num_outputs}), or (heads, n, num_outputs)."
            )
        heads = heads.to(torch.promote_types(heads.dtype, torch.float32))
        if self.kind == "multiclass":
            n = heads.shape[1]
            each = (F.cross_entropy(h, labels, reduction="none", label_smoothing=label_smoothing) for h in heads)
            total = reduce(add, each)
            if penalty is not None:
                total = total + penalty(heads).reshape(n, -1).mean(1)
            return total
        y, present = self._goal(labels, label_smoothing)
        total = reduce(add, (self._elementwise(h, y) for h in heads))
        if penalty is not None:
            total = total + penalty(heads)
        total = total * present
        return total.sum(1) * (len(total) / present.sum().clamp(min=1))

    def labels(self, index: Tensor) -> Tensor:
        """The number of labels in the mean of the loss over samples `index`, a scalar on the task's device."""
        targets = self.targets[index.to(self.targets.device, non_blocking=True)]
        return (targets == targets).sum()  # NaN, a missing label, is not equal to itself

    def predict(self, output: Tensor) -> Tensor:
        """Probabilities, or values in the target's units (n, num_outputs): the heads' mean after the activation."""
        heads = (output if output.dim() == 3 else output[None]).float()
        if self.kind == "regression":
            assert self.mean is not None  # regression has both
            assert self.std is not None
            return heads.mean(0) * self.std + self.mean
        return (heads.softmax(-1) if self.kind == "multiclass" else heads.sigmoid()).mean(0)

    def score(self, y_true: np.ndarray, y_pred: np.ndarray) -> tuple[float, list[str]]:
        """The metric of targets and predictions (n, num_outputs), with notes on what it leaves out."""
        if self.evaluate is not None:
            return self.evaluate(y_true, y_pred)
        return metrics.compute(self.metric, y_true, y_pred, self.target_names)

    def _goal(self, y: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor]:
        """The wanted output, with 0 for a missing label, and a mask of the labels that exist."""
        missing = y.isnan()
        if self.kind == "regression":
            if label_smoothing:
                raise UsageError(f"{self.name} is regression: label smoothing needs classes, set it to 0.")
            assert self.mean is not None  # regression has both
            assert self.std is not None
            y = (y - self.mean) / self.std
        elif label_smoothing:
            y = y * (1 - label_smoothing) + 0.5 * label_smoothing
        return y.masked_fill(missing, 0.0), ~missing

    def _elementwise(self, output: Tensor, y: Tensor) -> Tensor:
        if self.kind == "regression":
            return (output - y).square()
        return F.binary_cross_entropy_with_logits(output, y, reduction="none")


def _mean_std(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (population) standard deviation of each column, missing values left out; a constant column gets 1."""
    values = targets.double()
    present = ~values.isnan()
    if not present.any(0).all():
        raise UsageError("A target has no value in the train split; leave it out or choose another split.")
    count = present.sum(0)
    mean = values.nansum(0) / count
    std = ((values - mean).square().nansum(0) / count).sqrt()
    return mean.float(), torch.where(std > 0, std, torch.ones_like(std)).float()

"""The public types: runs, outcomes, records; what a method, batch, engine, job and logger must offer. No torch."""

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sam_bench.record_types import (
    AGES,
    LINE,
    MANY,
    NAME,
    RUN_ID,
    SHA256,
    Attempt,
    Configuration,
    Data,
    Failed,
    Files,
    Finished,
    Hardware,
    Key,
    Labels,
    Metric,
    Provenance,
    Record,
    RunError,
    Spent,
    Training,
)

if TYPE_CHECKING:
    from numpy import ndarray
    from torch import Generator, Tensor, device

__all__ = [
    "AGES",
    "LINE",
    "MANY",
    "NAME",
    "RUN_ID",
    "SHA256",
    "Attempt",
    "Batch",
    "Configuration",
    "Data",
    "Engine",
    "Failed",
    "Files",
    "Finished",
    "Hardware",
    "Job",
    "Key",
    "Labels",
    "Logger",
    "Method",
    "Metric",
    "Model",
    "Outcome",
    "Provenance",
    "Record",
    "RunError",
    "RunSpec",
    "Spent",
    "Task",
    "Training",
]


@dataclass(frozen=True)
class RunSpec:
    """One run to be made: its name, what the tables call its parts, and the resolved configuration.

    A cell of an experiment's grid is a RunSpec. `labels` has dataset, model, base, optimizer (YAML stems), seed and
    split_seed; `overrides` are the words that made it; `experiment` is the YAML it belongs to, None for a single run.
    """

    run_id: str
    labels: Mapping[str, Any]
    overrides: tuple[str, ...]
    config: Mapping[str, Any]
    experiment: str | None


class Outcome(enum.StrEnum):
    """How an attempt to make a run ended."""

    FINISHED = "finished"  # its record is there
    FAILED = "failed"  # its failed record is there
    REFUSED = "refused"  # a UsageError: the next attempt would end the same way
    BUSY = "busy"  # another process holds its lease: wait for it
    STOPPED = "stopped"  # it was asked to stop and wrote a checkpoint
    KILLED = "killed"  # its process ended without a word

    @property
    def exit_status(self) -> int:
        """The exit status of a process that ends like this; a killed one has none of its own."""
        return _EXIT[self]

    @classmethod
    def of_exit(cls, status: int | None) -> "Outcome":
        """The outcome that a process with this exit status tells; KILLED for any other."""
        return next((outcome for outcome, code in _EXIT.items() if code == status), cls.KILLED)


# 75 is EX_TEMPFAIL of sysexits.h: try again later.
_EXIT = {Outcome.FINISHED: 0, Outcome.FAILED: 1, Outcome.REFUSED: 2, Outcome.BUSY: 3, Outcome.STOPPED: 75}


class Batch(Protocol):
    """Samples on one device; `y` is (n, num_outputs), or (n,) classes, None until the task sets it."""

    y: "Tensor | None"

    def __len__(self) -> int: ...

    def select(self, index: "Tensor") -> "Batch":
        """The samples at these positions (k,) of the batch: for methods that choose samples."""

    def to(self, device: "device | str") -> "Batch":
        """The same samples on another device."""


class Model(Protocol):
    """A torch Module that predicts. It may also offer `penalty(output)`, (n, num_outputs), which the loss adds."""

    training: bool

    def train(self, mode: bool = True) -> Any:
        """Training mode, or with False evaluation mode."""

    def eval(self) -> Any:
        """Evaluation mode: no dropout, running statistics as they are."""

    def __call__(self, batch: Batch) -> "Tensor":
        """The output for a batch: (n, num_outputs), or (heads, n, num_outputs) for several heads."""


class Task(Protocol):
    """What a data set asks of a model, split by split; sam_bench.datasets.task.Task is one."""

    name: str
    kind: str  # regression, binary or multiclass
    num_outputs: int
    metric: str
    targets: "Tensor"  # (N, num_outputs) with NaN for a missing label, or (N,) classes
    splits: "dict[str, Tensor]"  # train, valid, test: the numbers of their samples (n,)

    def collate(self, index: "Tensor", *, train: bool = False, generator: "Generator | None" = None) -> Batch:
        """The batch of samples `index` (n,), augmented with `generator` if `train`."""

    def loss(self, output: "Tensor", batch: Batch) -> "Tensor":
        """Loss per sample (n,), whose mean is the loss of the batch."""

    def predict(self, output: "Tensor") -> "Tensor":
        """Probabilities, or values in the unit of the target, (n, num_outputs)."""

    def score(self, y_true: "ndarray", y_pred: "ndarray") -> tuple[float, list[str]]:
        """The metric of targets and predictions (n, num_outputs), with notes on what it leaves out."""


class Method(Protocol):
    """What the contract asks of an optimizer: ours, a torch optimizer, or another package's behind an adapter."""

    @property
    def step(self) -> Callable[..., Any]:
        """One step, `step(closure)`; a method that chooses samples also takes `samples`, their numbers (n,)."""

    def state_dict(self) -> dict[str, Any]:
        """All that it remembers, as torch.save takes it."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember what was saved."""


class Job(Protocol):
    """One cell at work, wherever its engine put it."""

    cell: RunSpec
    started: float

    def poll(self) -> tuple[Outcome, str] | None:
        """None while it waits or works; then how it ended and a message, told once. Must not block."""

    def stop(self) -> None:
        """Ask it to write a checkpoint and end."""

    def kill(self) -> None:
        """End it now, also one that has ended."""


class Engine(Protocol):
    """Where cells run; `capacity` is how many jobs a sweep may have there at once, running or queued."""

    capacity: int

    def start(self, cells: Sequence[RunSpec]) -> Iterable[Job]:
        """Set cells to work and yield one job for each, in their order; raises UsageError when it cannot."""


class Logger(Protocol):
    """A mirror of a run's record; it must not change the run."""

    def start(self, head: Mapping[str, Any]) -> None:
        """The run begins, or goes on; `head` is what its record says before the results."""

    def log(self, row: Mapping[str, Any]) -> None:
        """A row of the curve."""

    def finish(self, record: Mapping[str, Any]) -> None:
        """The record is written."""

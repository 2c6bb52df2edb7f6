"""The public types: what a run is, how it can end, and what an engine, a job and a logger must offer. No torch."""

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


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

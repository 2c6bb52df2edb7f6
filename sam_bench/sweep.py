"""A whole experiment: its unfinished cells, several at a time, shared with every other sweep on the same records.

A `Sweep` decides which cell is made next and what its end means; an `Engine` makes it, on this machine or elsewhere:

- `Engine.capacity` says how many jobs the sweep may have there at once (running, or waiting in a queue of the engine).
- `Engine.start(cells)` sets cells to work and yields one `Job` for each, in that order; it gets as many as there is
  room for, so that an engine may hand them over together, as an array. It raises UsageError when it cannot.
- `Job.poll()` is asked ten times a second and must not wait. None: queued or at work. Otherwise the end, told once, as
  (kind, message): `finished` (its record is there), `failed` (its failed record is there), `refused` (a UsageError: the
  next attempt would end the same way), `busy` (another process holds its lease: it is waited for), `stopped` (it was
  asked to, and wrote a checkpoint), `killed` (it said nothing: taken up again, at most `retries` times).
- `Job.stop()` asks for a checkpoint and an end, once; `Job.kill()` ends it now, also one that has ended.

What runs at the other end is `sam_bench.execute.execute(cell, results, stop=...)`, which takes the lease, resumes from
a checkpoint and writes the record; `sam_bench.worker.outcome_of` turns its end into (kind, message). An engine never
decides whether a cell runs twice: the lease does. `sam_bench.local` is the engine for this machine.
"""

import json
import random
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sam_bench.results import lease
from sam_bench.results.record import RunDirectory
from sam_bench.results.store import first_line
from sam_bench.run import Cell

POLL_SECONDS = 0.1
LOOK_AGAIN = 1.0  # seconds between two looks at a cell that another sweep works on


class Job(Protocol):
    """One cell at work, wherever its engine put it."""

    cell: Cell
    started: float

    def poll(self) -> tuple[str, str] | None:
        """None while it works; then finished, failed, refused, busy, stopped or killed, and a message."""

    def stop(self) -> None:
        """Ask it to write a checkpoint and end."""

    def kill(self) -> None:
        """End it now."""


class Engine(Protocol):
    """Where cells run; `capacity` is how many may at once."""

    capacity: int

    def start(self, cells: Sequence[Cell]) -> Iterable[Job]:
        """Set cells to work; one job for each, in their order."""


@dataclass
class Outcome:
    """What became of the cells of a sweep, by run_id; `messages` says why where one did not finish."""

    finished: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    messages: dict[str, str] = field(default_factory=dict)


def pending(cells: Sequence[Cell], results: Path, *, retry_failed: bool) -> list[Cell]:
    """The cells without a record; those that failed only if they are to be tried again."""
    directories = [(cell, RunDirectory(results, cell.run_id)) for cell in cells]
    return [c for c, d in directories if not d.final.exists() and (retry_failed or not d.failed.exists())]


def heartbeat(cell: Cell, results: Path) -> dict:
    """The last sign of life of a running cell (step, steps, share, metric, value); empty if there is none yet."""
    try:
        return json.loads((RunDirectory(results, cell.run_id).working / "heartbeat.json").read_bytes())
    except (OSError, ValueError):
        return {}


class Sweep:
    """Makes cells on an engine; `show` is called with this object whenever something may have changed.

    A cell that another sweep works on is put back and waited for: so that all of them end with all records.
    `retries` is how often a cell is taken up again whose job was killed.
    """

    def __init__(self, cells: Sequence[Cell], results: Path, engine: Engine, *, retries: int,
                 show: Callable[["Sweep"], None]):  # fmt: skip
        self.waiting, self.results, self.engine, self.show = list(cells), results, engine, show
        self.running: list[Job] = []
        self.outcome = Outcome()
        self.retries = retries
        self.attempts: dict[str, int] = {}
        self.interrupts = 0
        self._told: set[Job] = set()
        self._not_before: dict[str, float] = {}
        self._failed_before = {cell.run_id: self._failure(cell) for cell in cells}

    def run(self) -> Outcome:
        """Make all cells; Ctrl-C or SIGTERM once lets the jobs write a checkpoint and stop, twice ends them now."""
        before = {number: signal.signal(number, self._interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while self.running or (self.waiting and not self.interrupts):
                self._start()
                self._stop()
                self._collect()
                self.show(self)
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:  # the second one
            self.outcome.stopped += [job.cell.run_id for job in self.running]
        finally:
            for job in self.running:
                job.kill()
            for number, handler in before.items():
                signal.signal(number, handler)
        return self.outcome

    def _interrupt(self, *_: Any) -> None:
        self.interrupts += 1
        if self.interrupts == 2:
            raise KeyboardInterrupt

    def _stop(self) -> None:
        """Tell the jobs of an interrupted sweep, also one that was just being started when the signal came."""
        for job in self.running if self.interrupts else ():
            if job not in self._told:
                self._told.add(job)
                job.stop()

    def _start(self) -> None:
        if self.interrupts:
            return
        for job in self.engine.start(self._next(self.engine.capacity - len(self.running))):
            self.running.append(job)  # one by one: an interrupt between two finds those that were started

    def _next(self, room: int) -> list[Cell]:
        """The first `room` waiting cells that nobody works on; those that another sweep has settled are counted."""
        now, chosen = time.monotonic(), []
        for cell in list(self.waiting) if room > 0 else ():
            if len(chosen) == room:
                break
            if self._not_before.get(cell.run_id, 0.0) > now:
                continue
            directory = RunDirectory(self.results, cell.run_id)
            if directory.finished:
                self._settle(cell, "finished", "")
            elif self._failure(cell) != self._failed_before[cell.run_id]:
                self._settle(cell, "failed", first_line(directory.failed))
            elif lease.state(directory.working) == "live":
                self._look_again(cell)
            else:
                self.waiting.remove(cell)
                chosen.append(cell)
        return chosen

    def _settle(self, cell: Cell, kind: str, message: str) -> None:
        if cell in self.waiting:
            self.waiting.remove(cell)
        getattr(self.outcome, kind).append(cell.run_id)
        self.outcome.messages[cell.run_id] = message

    def _look_again(self, cell: Cell) -> None:
        """Later, and not in step with the other sweeps."""
        self._not_before[cell.run_id] = time.monotonic() + LOOK_AGAIN * random.uniform(0.5, 1.5)

    def _failure(self, cell: Cell) -> tuple | None:
        """Which failed attempt lies there; None if there is none."""
        try:
            found = (RunDirectory(self.results, cell.run_id).failed / "record.json").stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _collect(self) -> None:
        for job in list(self.running):
            ended = job.poll()
            if ended is None:
                continue
            self.running.remove(job)
            kind, message = ended
            if kind in ("busy", "killed", "stopped") and not self.interrupts:
                self._again(job.cell, kind, message)
            else:
                self._settle(job.cell, kind if hasattr(self.outcome, kind) else "stopped", message)

    def _again(self, cell: Cell, kind: str, message: str) -> None:
        """A cell that another sweep has is waited for; one whose job was ended by somebody did not fail."""
        if kind == "busy":
            self._look_again(cell)
        else:
            self.attempts[cell.run_id] = self.attempts.get(cell.run_id, 0) + 1
            if self.attempts[cell.run_id] > self.retries:
                return self._settle(cell, "failed", f"{message}; gave up after {self.retries} retries")
        self.waiting.insert(0, cell)
        return None

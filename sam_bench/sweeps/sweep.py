"""Run an experiment: its unfinished cells, several at a time, shared with every other sweep on the same records.

A cell is one run of the experiment. A `Sweep` decides which cell comes next and what its outcome means. An `Engine`
runs it, on this machine or elsewhere (`sam_bench.api` says what an engine and its jobs must offer). A killed cell is
started again, at most `retries` times. The sweep waits for a cell that runs elsewhere. It is the lease, not the
engine, that keeps a cell from running twice.

The engine's worker calls `training.life.execute`, which takes the lease, resumes from a checkpoint and writes the
record. `sweeps.worker.outcome_of` turns its end into an `Outcome` and a message.
"""

import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sam_bench.api import Engine, Job, Outcome, RunSpec
from sam_bench.store import lease
from sam_bench.store.folder import RunDirectory
from sam_bench.store.heartbeat import Heartbeat
from sam_bench.store.heartbeat import heartbeat as read_heartbeat
from sam_bench.store.index import first_line
from sam_bench.store.owner import silence
from sam_bench.sweeps.outcomes import Tally

POLL_SECONDS = 0.1
LOOK_AGAIN = 1.0  # seconds between two checks of a cell that another sweep works on


def pending(cells: Sequence[RunSpec], results: Path, *, retry_failed: bool) -> list[RunSpec]:
    """The cells without a record; failed cells only if they should be tried again."""
    directories = [(cell, RunDirectory(results, cell.run_id)) for cell in cells]
    return [c for c, d in directories if not d.final.exists() and (retry_failed or not d.failed.exists())]


def heartbeat(cell: RunSpec, results: Path) -> Heartbeat:
    """The last heartbeat of a running cell (step, steps, share, metric, value); empty if there is none yet."""
    return read_heartbeat(RunDirectory(results, cell.run_id).working) or {}


class Sweep:
    """Runs cells on an engine; `show` is called with this object whenever something may have changed.

    A sweep waits for a cell that another sweep works on, so that all sweeps end with all records. `retries` is how
    often a cell is started again after its job was killed.
    """

    def __init__(self, cells: Sequence[RunSpec], results: Path, engine: Engine, *, retries: int,
                 show: Callable[["Sweep"], None]):  # fmt: skip
        self.waiting, self.results, self.engine, self.show = list(cells), results, engine, show
        self.running: list[Job] = []
        self.tally = Tally()
        self.retries = retries
        self.attempts: dict[str, int] = {}
        self.interrupts = 0
        self.silent: dict[str, str] = {}  # implausible heartbeats of cells in other sweeps
        self._told: set[Job] = set()
        self._not_before: dict[str, float] = {}
        self._failed_before = {cell.run_id: self._failure(cell) for cell in cells}

    def run(self) -> Tally:
        """Make all cells. After a Ctrl-C or SIGTERM the jobs write a checkpoint and stop; a second one ends them."""
        before = {number: signal.signal(number, self._interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while self.running or (self.waiting and not self.interrupts):
                self._start()
                self._stop()
                self._collect()
                self.show(self)
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:  # the second one
            for job in self.running:
                self.tally.settle(job.cell.run_id, Outcome.STOPPED, "")
        finally:
            for job in self.running:
                job.kill()
            for number, handler in before.items():
                signal.signal(number, handler)
        return self.tally

    def _interrupt(self, *_: Any) -> None:
        self.interrupts += 1
        if self.interrupts == 2:
            raise KeyboardInterrupt

    def _stop(self) -> None:
        """Stop the jobs of an interrupted sweep, also a job that was just being started when the signal came."""
        for job in self.running if self.interrupts else ():
            if job not in self._told:
                self._told.add(job)
                job.stop()

    def _start(self) -> None:
        if self.interrupts:
            return
        for job in self.engine.start(self._next(self.engine.capacity - len(self.running))):
            self.running.append(job)  # one by one, so that after an interrupt the jobs started so far are known

    def _next(self, room: int) -> list[RunSpec]:
        """The first `room` waiting cells that no other process runs; counts cells that another sweep has finished."""
        now = time.monotonic()
        chosen: list[RunSpec] = []
        for cell in list(self.waiting) if room > 0 else ():
            if len(chosen) == room:
                break
            if self._not_before.get(cell.run_id, 0.0) > now:
                continue
            directory = RunDirectory(self.results, cell.run_id)
            if directory.finished:
                self._settle(cell, Outcome.FINISHED, "")
            elif self._failure(cell) != self._failed_before[cell.run_id]:
                self._settle(cell, Outcome.FAILED, first_line(directory.failed))
            elif lease.state(directory.working) == "live":
                self.silent[cell.run_id] = silence(directory.working, lease.default_stale_after())
                self._look_again(cell)
            else:
                self.waiting.remove(cell)
                chosen.append(cell)
        return chosen

    def _settle(self, cell: RunSpec, outcome: Outcome, message: str) -> None:
        if cell in self.waiting:
            self.waiting.remove(cell)
        self.tally.settle(cell.run_id, outcome, message)

    def _look_again(self, cell: RunSpec) -> None:
        """Check this cell later, at a random time, so that several sweeps do not check at once."""
        self._not_before[cell.run_id] = time.monotonic() + LOOK_AGAIN * random.uniform(0.5, 1.5)

    def _failure(self, cell: RunSpec) -> tuple[int, int] | None:
        """The failed attempt on disk; None if there is none."""
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
            outcome, message = ended
            if outcome in (Outcome.BUSY, Outcome.KILLED, Outcome.STOPPED) and not self.interrupts:
                self._again(job.cell, outcome, message)
            else:
                self._settle(job.cell, outcome, message)

    def _again(self, cell: RunSpec, outcome: Outcome, message: str) -> None:
        """Put back a cell that another sweep runs, or whose job was killed: neither has failed."""
        if outcome is Outcome.BUSY:
            self._look_again(cell)
        else:
            self.attempts[cell.run_id] = self.attempts.get(cell.run_id, 0) + 1
            if self.attempts[cell.run_id] > self.retries:
                return self._settle(cell, Outcome.FAILED, f"{message}; gave up after {self.retries} retries")
        self.waiting.insert(0, cell)
        return None

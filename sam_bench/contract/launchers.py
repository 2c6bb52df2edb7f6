"""The contract of the launchers: a real job goes through the engine and comes back."""

import time
from collections.abc import Sequence
from pathlib import Path

from sam_bench.api import Engine, Job, Outcome, RunSpec
from sam_bench.contract.result import Broken, Point, Report, point, results
from sam_bench.errors import UsageError
from sam_bench.store.folder import RunDirectory

POLL_SECONDS = 0.2


class LauncherSubject:
    """An engine, a cell for it to make, and how long to wait for each answer."""

    def __init__(self, name: str, engine: Engine, cell: RunSpec, results: Path, seconds: float):
        self.name, self.engine, self.cell, self.results, self.seconds = name, engine, cell, results, seconds
        self.job: Job | None = None
        self.outcome: tuple[Outcome, str] | None = None
        self.took = 0.0


@point("1", "it takes a job",
       "The cluster says why. Check launcher.partition, the account in launcher.options, memory, time.")  # fmt: skip
def submitted(subject: LauncherSubject) -> str:
    """One cell, a run of a single step."""
    try:
        (subject.job,) = subject.engine.start([subject.cell])
    except UsageError as error:
        raise Broken(str(error)) from error
    return f"room for {subject.engine.capacity} at once"


@point("2", "the job comes back as finished",
       "Read the job's log in the results folder. Most often the environment of the node lacks this package "
       "(launcher.setup), or the folder is not shared with the nodes.")  # fmt: skip
def comes_back(subject: LauncherSubject) -> str:
    """The job ends within the time limit."""
    if subject.job is None:
        raise Broken("no job was taken")
    begun = time.monotonic()
    while (ended := subject.job.poll()) is None:
        if time.monotonic() - begun > subject.seconds:
            subject.job.kill()
            raise Broken(
                f"no answer after {subject.seconds:.0f} s",
                "wait longer (--seconds), or ask the queue why",
            )
        time.sleep(POLL_SECONDS)
    subject.took, subject.outcome = time.monotonic() - begun, ended
    if ended[0] is not Outcome.FINISHED:
        raise Broken(f"it ended as {ended[0]}: {ended[1]}")
    return f"after {subject.took:.1f} s"


@point("3", "its record is in the results folder",
       "All nodes must see the same results folder: set SAM_BENCH_RESULTS to a shared one.")  # fmt: skip
def recorded(subject: LauncherSubject) -> str:
    """The job leaves the record that a sweep would read."""
    directory = RunDirectory(subject.results, subject.cell.run_id)
    if not directory.finished:
        raise Broken(f"there is no {directory.final}")
    return directory.run_id


POINTS: tuple[Point, ...] = (submitted, comes_back, recorded)


def launcher_contract(name: str, engine: Engine, cell: RunSpec, folder: Path, *, seconds: float = 600.0,
                      points: Sequence[Point] = POINTS) -> Report:  # fmt: skip
    """Send `cell` through `engine`, whose records go to `folder`, and wait at most `seconds` for it."""
    subject = LauncherSubject(name, engine, cell, folder, seconds)
    return Report("launcher", name, results(points, subject))

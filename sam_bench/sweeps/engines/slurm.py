"""Cells as the tasks of a SLURM job array: the engine behind `sam-bench sweep NAME --launcher slurm`.

submitit writes the array and returns the outcomes through the results folder, which all nodes must see. A task that
must stop (because its time is over or it is preempted) writes a checkpoint and queues up again, even if no sweep waits
for it any more. The state of a task without an outcome is read from `squeue`, which works without accounting.
"""

import getpass
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import submitit

from sam_bench.api import Outcome, RunSpec
from sam_bench.errors import UsageError
from sam_bench.store.disk import need_real_folder
from sam_bench.training.threads import SEVERAL

LOOK_SECONDS = 3.0  # seconds between two checks of the queue and the results folder
OVER = {"CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE", "COMPLETED"}
GONE = "no longer in the queue"
LOOKS = 3  # this many checks in a row must find a task gone before its outcome counts as lost: file systems lag
TIMEOUTS = 10_000  # how often a cell may reach the time limit and queue up again


class Task:
    """One cell as SLURM runs it. It ends with an outcome (see `api.Job.poll`), or queues again with a checkpoint."""

    def __init__(self, cell: RunSpec, results: Path):
        self.cell, self.results = cell, results

    def __call__(self) -> tuple[Outcome, str]:
        """Make the cell; does not return if it must queue up again."""
        from sam_bench.sweeps.worker import outcome_of

        asked: list[int] = []
        queue_up_again = signal.getsignal(signal.SIGUSR2)  # submitit's
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
            signal.signal(number, lambda received, _: asked.append(received))
        outcome = outcome_of(self.cell, self.results, lambda: bool(asked))
        if outcome[0] is Outcome.STOPPED and signal.SIGUSR2 in asked and signal.SIGUSR1 not in asked:
            assert callable(queue_up_again)
            queue_up_again(signal.SIGUSR2, None)
        return outcome

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """The task that submitit queues up again."""
        return submitit.helpers.DelayedSubmission(self)


class SlurmJob:
    """One task of an array."""

    def __init__(self, cell: RunSpec, job: "submitit.Job[tuple[Outcome, str]]", queue: "Queue"):
        self.cell, self.job = cell, job
        self.started = time.monotonic()
        self._queue, self._looked = queue, queue.looks
        self._over = 0

    def poll(self) -> tuple[Outcome, str] | None:
        """None while it is queued or works; then its own outcome, or `killed`."""
        if self._queue.looks == self._looked:
            return None
        self._looked, states = self._queue.looks, self._queue.states
        if self.job.paths.result_pickle.exists():
            try:
                answer: tuple[Outcome, str] = self.job.result()
                return answer
            except Exception as error:  # an error of submitit on the node: importing, unpickling
                return Outcome.FAILED, f"{type(error).__name__}: {error}"
        if states is not None:
            state = states.get(self.job.job_id, GONE)
            self._over = self._over + 1 if state in OVER or state == GONE else 0
            if self._over == LOOKS:
                return (
                    Outcome.KILLED,
                    f"SLURM job {self.job.job_id} is {state.lower()}; its log is {self.job.paths.stdout}",
                )
        return None

    def stop(self) -> None:
        """Ask it to write a checkpoint and end; a queued task just leaves the queue."""
        _slurm("scancel", "--state=PENDING", self.job.job_id)
        _slurm("scancel", "--state=RUNNING", "--signal=USR1", self.job.job_id)

    def kill(self) -> None:
        """End it now."""
        _slurm("scancel", self.job.job_id)


class Queue:
    """The states of this user's tasks, read now and then by a thread, so that a busy controller does not block us."""

    def __init__(self) -> None:
        self.states: dict[str, str] | None = None  # None if the controller does not answer
        self.looks = 0
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        words = ("squeue", "--noheader", "--array", "--states=all", f"--user={getpass.getuser()}", "--format=%i %T")
        while True:
            text = _slurm(*words)
            self.states = None if text is None else dict(line.split(maxsplit=1) for line in text.splitlines())
            self.looks += 1
            time.sleep(LOOK_SECONDS)


class SlurmEngine:
    """Submits cells as one job array with the resources of configs/launcher/slurm.yaml.

    Raises UsageError if there is no SLURM, or if it refuses the array (an unknown partition, too much memory).
    """

    def __init__(self, results: Path, jobs: int | None = None, *, partition: str | None = None, minutes: int = 240,
                 memory_gb: float = 8, cpus: int = 2, gpus: int = 0, parallel: int = 100, grace_seconds: int = 90,
                 setup: Sequence[str] = (), options: Mapping[str, object] | None = None):  # fmt: skip
        if absent := next((name for name in ("sbatch", "srun", "squeue") if shutil.which(name) is None), None):
            raise UsageError(
                f"there is no {absent} on this machine: run the command on a node that submits SLURM jobs."
            )
        if grace_seconds >= 60 * minutes:
            raise UsageError(f"launcher.grace_seconds={grace_seconds} must be less than launcher.minutes={minutes}.")
        self.results = results.resolve()
        self.capacity = 1000  # a queued task costs nothing, and SLURM decides what runs
        exports = [f"export {name}={value}" for name, value in SEVERAL.items()]
        need_real_folder(self.results / "logs" / "slurm", 2)  # submitit would follow a link, and it reads pickles there
        self._executor = submitit.SlurmExecutor(self.results / "logs" / "slurm", max_num_timeout=TIMEOUTS)
        self._executor.update_parameters(
            job_name="sam-bench", partition=partition, time=minutes, mem=f"{round(1024 * memory_gb)}MB",
            cpus_per_task=cpus, gpus_per_node=gpus or None, signal_delay_s=grace_seconds, stderr_to_stdout=True,
            array_parallelism=jobs or parallel, setup=[*setup, *exports], additional_parameters=dict(options or {}),
        )  # fmt: skip
        self._queue = Queue()

    def start(self, cells: Sequence[RunSpec]) -> Iterator[SlurmJob]:
        """Submit cells as one array."""
        if not cells:
            return
        try:
            with self._executor.batch():
                jobs = [self._executor.submit(Task(cell, self.results)) for cell in cells]
        except Exception as error:
            raise UsageError(f"SLURM refuses the job array: {_reason(error)}") from error
        for cell, job in zip(cells, jobs, strict=True):
            yield SlurmJob(cell, job, self._queue)


def _reason(error: Exception) -> str:
    """The message of sbatch, taken from the error of submitit."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "error:" in line), lines[-1] if lines else type(error).__name__)


def _slurm(*words: str) -> str | None:
    """The output of a SLURM command; None if it fails or the controller does not answer."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SQUEUE_", "SCANCEL_"))}
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True, env=environment)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout

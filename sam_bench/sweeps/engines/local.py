"""Cells in processes of this machine: one per GPU or core, forked from a server that has imported torch once."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

from sam_bench.api import Outcome, RunSpec
from sam_bench.errors import UsageError
from sam_bench.training import threads

LOST = 255  # the exit status that multiprocessing reports for a process whose fork server is gone
WAITS = (0.1, 0.5, 1.0, 2.0, 4.0)  # seconds after each attempt to start a worker


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """Names (numbers, or UUIDs) of the GPUs that this process may use, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        return names[: names.index("-1")] if "-1" in names else [name for name in names if name]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(n) for n in range(sum(line.startswith("GPU ") for line in listed.stdout.splitlines()))]


def slots(cells: Sequence[RunSpec], jobs: int | None, per_gpu: int) -> list[str | None]:
    """One entry per cell that may run at once, its GPU or None: `per_gpu` on each GPU, else as many as the cores allow.

    Raises UsageError for numbers below 1.
    """
    if (jobs is not None and jobs < 1) or per_gpu < 1:
        raise UsageError("--jobs and --per-gpu must be at least 1.")
    on_gpu = any(cell.config["device"] != "cpu" for cell in cells)
    names: list[str | None] = [gpu for _ in range(per_gpu) for gpu in gpus()] if on_gpu else []
    at_once = jobs or max(1, cores() // max((threads.of_config(cell.config) for cell in cells), default=1))
    return (names or [None] * at_once)[:jobs][: max(1, len(cells))]


def imports(cells: Iterable[RunSpec]) -> list[str]:
    """The modules of this package that a run of these cells imports: those of their `_target_`s, by file name."""
    package = Path(__file__).parents[2]
    named = {tuple(target.split(".")[1:3]) for cell in cells for target in _targets(cell.config)}
    files = {path for room, name in named for path in (package / room).rglob(f"{name.lower()}.py")}
    return sorted(".".join(("sam_bench", *path.relative_to(package).with_suffix("").parts)) for path in files)


def _targets(node: object) -> Iterator[str]:
    for key, value in node.items() if isinstance(node, Mapping) else ():
        if key == "_target_" and str(value).startswith("sam_bench."):
            yield str(value)
        yield from _targets(value)


class LocalJob:
    """A worker process. If its fork server was killed, it is busy until it has ended, and is then started again."""

    def __init__(self, cell: RunSpec, slot: int, process: Any, messages: Any):
        self.cell, self.slot = cell, slot
        self.started = time.monotonic()
        self.ended = False
        self._process, self._messages, self._pid = process, messages, process.pid

    def poll(self) -> tuple[Outcome, str] | None:
        """None while it works; then the outcome that it reports, or `killed`."""
        code = self._process.exitcode
        orphaned = code == LOST
        if code is None or (orphaned and not self._messages.poll()):  # an orphan stops by itself at its next step
            return None
        try:
            message = self._messages.recv()
        except (EOFError, OSError):  # it ended before it could report anything
            name = signal.Signals(-code).name if code < 0 else f"status {code}"
            message, code = f"its process was ended by {name}; its checkpoint, if any, is kept", None
        self.ended = True
        self._messages.close()
        self._process.close()
        return (Outcome.BUSY if orphaned else Outcome.of_exit(code)), message

    def stop(self) -> None:
        """Ask it to write a checkpoint and end."""
        self._process.terminate()

    def kill(self) -> None:
        """End it now."""
        if self._process.exitcode == LOST and not self.ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        elif not self.ended:
            self._process.kill()


class LocalEngine:
    """Runs cells in the given `slots`, each in a process forked from a server that has imported their code.

    `preload` are the modules that this fork server imports besides torch (see `imports`).
    """

    def __init__(self, results: Path, slots: Sequence[str | None], preload: Sequence[str] = ()):
        self.results, self.slots, self.capacity = results, slots, len(slots)
        self._jobs: list[LocalJob] = []
        threads.before_torch(threads.SEVERAL)
        self._fork = multiprocessing.get_context("forkserver")
        self._fork.set_forkserver_preload(["sam_bench.sweeps.worker", *preload])

    def start(self, cells: Sequence[RunSpec]) -> Iterator[LocalJob]:
        """Start cells in free slots."""
        for cell in cells:
            self._jobs = [job for job in self._jobs if not job.ended]
            slot = min(set(range(self.capacity)) - {job.slot for job in self._jobs})
            self._jobs.append(self._start(cell, slot))
            yield self._jobs[-1]

    def _start(self, cell: RunSpec, slot: int) -> LocalJob:
        """Start a worker, and first the fork server if that was killed; raises UsageError if every attempt fails."""
        for seconds in WAITS:
            try:
                return self._launch(cell, slot)
            except (EOFError, OSError) as error:  # the fork server ended during the request
                failure = error
                time.sleep(seconds)
        raise UsageError(
            f"no worker process can be started, {len(WAITS)} attempts in a row: the server that forks them ends "
            f"({type(failure).__name__}: {failure}). Is there enough memory? --jobs 1 needs the least."
        )

    def _launch(self, cell: RunSpec, slot: int) -> LocalJob:
        receive, send = self._fork.Pipe(duplex=False)
        log = self.results / "logs" / f"{cell.run_id}.log"
        gpu = self.slots[slot]
        arguments = (cell, self.results, log, gpu, send, 1 if gpu is None else self.slots.count(gpu))
        process = self._fork.Process(target=_enter, args=arguments, name=cell.run_id)
        # A Ctrl-C would end a fork server that imports torch. So SIGINT is blocked here: this process gets it later,
        # and the server inherits the block and never sees it.
        resource_tracker.ensure_running()  # first, because it leaves SIGINT unblocked
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        try:
            process.start()
        except BaseException:  # a worker that started nevertheless notices that nobody listens, and ends
            receive.close()
            raise
        finally:
            send.close()
        return LocalJob(cell, slot, process, receive)


def _enter(*arguments: Any) -> None:
    """Where a worker process starts. Only the worker imports torch, never the driver."""
    from sam_bench.sweeps.worker import work

    work(*arguments)

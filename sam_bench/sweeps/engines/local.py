"""Cells in processes of this machine: one per GPU or core, forked from a server that has imported torch once."""

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

from sam_bench.api import Outcome, RunSpec
from sam_bench.errors import UsageError


def cores() -> int:
    """Processor cores that this process may use."""
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
    """For each cell that may run at once its GPU, or None: `per_gpu` on each GPU, else one per core.

    Raises UsageError for numbers that make no sense.
    """
    if (jobs is not None and jobs < 1) or per_gpu < 1:
        raise UsageError("--jobs and --per-gpu must be at least 1.")
    on_gpu = any(cell.config["device"] != "cpu" for cell in cells)
    names: list[str | None] = [gpu for _ in range(per_gpu) for gpu in gpus()] if on_gpu else []
    return (names or [None] * (jobs or cores()))[:jobs][: max(1, len(cells))]


class LocalJob:
    """A worker process."""

    def __init__(self, cell: RunSpec, slot: int, process: Any, messages: Any):
        self.cell, self.slot = cell, slot
        self.started = time.monotonic()
        self.ended = False
        self._process, self._messages = process, messages

    def poll(self) -> tuple[Outcome, str] | None:
        """None while it works; then what it says of itself, or `killed`."""
        code = self._process.exitcode
        if code is None:
            return None
        try:
            message = self._messages.recv()
        except (EOFError, OSError):  # it was ended before it could say anything
            name = signal.Signals(-code).name if code < 0 else f"status {code}"
            message, code = f"its process was ended by {name}; its checkpoint, if any, is kept", None
        self.ended = True
        self._messages.close()
        self._process.close()
        return Outcome.of_exit(code), message

    def stop(self) -> None:
        """Ask it to write a checkpoint and end."""
        self._process.terminate()

    def kill(self) -> None:
        """End it now."""
        if not self.ended:
            self._process.kill()


class LocalEngine:
    """Runs cells in the given `slots` (see `slots`), each in a process whose threads are set before torch is there."""

    def __init__(self, results: Path, slots: Sequence[str | None]):
        self.results, self.slots, self.capacity = results, slots, len(slots)
        self._jobs: list[LocalJob] = []
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // len(slots))))
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        self._fork = multiprocessing.get_context("forkserver")
        self._fork.set_forkserver_preload(["sam_bench.sweeps.worker"])

    def start(self, cells: Sequence[RunSpec]) -> Iterator[LocalJob]:
        """Set cells to work in slots that are free."""
        for cell in cells:
            self._jobs = [job for job in self._jobs if not job.ended]
            slot = min(set(range(self.capacity)) - {job.slot for job in self._jobs})
            self._jobs.append(self._start(cell, slot))
            yield self._jobs[-1]

    def _start(self, cell: RunSpec, slot: int) -> LocalJob:
        receive, send = self._fork.Pipe(duplex=False)
        log = self.results / "logs" / f"{cell.run_id}.log"
        arguments = (cell, self.results, log, self.slots[slot], send)
        process = self._fork.Process(target=_enter, args=arguments, name=cell.run_id)
        # A Ctrl-C that comes while the fork server imports torch would end it: blocked here, it waits for us alone,
        # and what the server inherits is a SIGINT that it never sees.
        resource_tracker.ensure_running()  # first, because it leaves SIGINT unblocked
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        process.start()
        send.close()
        return LocalJob(cell, slot, process, receive)


def _enter(*arguments: Any) -> None:
    """What a worker process starts with: it alone imports torch, the driver never does."""
    from sam_bench.sweeps.worker import work

    work(*arguments)

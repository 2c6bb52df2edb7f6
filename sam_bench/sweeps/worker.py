"""A sweep runs each cell in its own process, with the output in a log file."""

import contextlib
import io
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

# Imported here so that a fork server that has loaded this module starts a worker in milliseconds. Torch imports the
# first one only when a run makes its optimizer, which takes seconds.
import torch._inductor.config  # noqa: F401

from sam_bench.api import Outcome, RunSpec
from sam_bench.config.build import trust_current_folder
from sam_bench.errors import UsageError
from sam_bench.store.disk import open_log
from sam_bench.store.folder import LeaseLost
from sam_bench.training import provenance
from sam_bench.training.life import Busy, execute
from sam_bench.training.loop import Stopped

# Read once, before workers are forked from here, because git takes tenths of a second.
provenance.code(), provenance.versions()

MESSAGE_LENGTH = 8000  # characters, less than a pipe holds, because nobody reads before the worker has ended


def stop_signal(*signals: int) -> Callable[[], bool]:
    """A function that says whether one of `signals` has come, or the parent process is gone."""
    parent, received = os.getppid(), []
    for number in signals:
        signal.signal(number, lambda *_: received.append(True))
    return lambda: bool(received) or os.getppid() != parent


def work(cell: RunSpec, results: Path, log: Path, gpu: str | None, messages: Connection, on_gpu: int = 1) -> None:
    """Run one cell (of `on_gpu` at once on its GPU) and exit with the status of its outcome.

    A message says why it did not finish.
    """
    provenance.share_gpu(on_gpu)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver hears Ctrl-C and decides
    stop = stop_signal(signal.SIGTERM, signal.SIGUSR1)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    try:
        _redirect(log)
        outcome, message = outcome_of(cell, results, lambda: stop() or _unheard(messages))
    except UsageError as error:
        outcome, message = Outcome.REFUSED, str(error)
    with contextlib.suppress(OSError):  # the driver may be gone
        messages.send(message[:MESSAGE_LENGTH])
    try:
        if message:
            print(message, file=sys.stderr)
        sys.stdout.flush()
    except OSError:  # a full disk must not change the exit status
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
    sys.exit(outcome.exit_status)


def _unheard(messages: Connection) -> bool:
    """Whether the driver is gone, or was interrupted while it started this worker and does not know about it."""
    watch = select.poll()
    watch.register(messages.fileno(), 0)
    return bool(watch.poll(0))


def _redirect(log: Path) -> None:
    """Send all output to a file."""
    os.dup2(open_log(log), 1)
    os.dup2(1, 2)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def outcome_of(cell: RunSpec, results: Path, stop: Callable[[], bool]) -> tuple[Outcome, str]:
    """Make one cell; returns its outcome and a message. Its configuration may name code in the current folder."""
    trust_current_folder()
    try:
        execute(cell, results, stop=stop)
    except (Busy, LeaseLost) as error:
        return Outcome.BUSY, str(error)
    except UsageError as error:
        return Outcome.REFUSED, str(error)
    except Stopped:
        return Outcome.STOPPED, "stopped with a checkpoint"
    except Exception as error:  # execute has recorded it, or it could not even start; the sweep continues
        with contextlib.suppress(OSError):
            traceback.print_exc()
        return Outcome.FAILED, f"{type(error).__name__}: {error}"
    return Outcome.FINISHED, ""

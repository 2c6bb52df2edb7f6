"""Worker processes, and the fork server behind them, which may be killed like any other process."""

import os
import signal
import threading
import time
from multiprocessing import forkserver
from types import SimpleNamespace

import psutil
import pytest
from support.workers import obedient

from sam_bench.api import Outcome
from sam_bench.errors import UsageError
from sam_bench.sweeps.engines import local


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """An engine whose workers wait for the file `go`; its fork server ends with it."""
    monkeypatch.setattr(local, "_enter", obedient)
    for name in local.threads.SEVERAL:
        monkeypatch.setenv(name, "1")
    made = local.LocalEngine(tmp_path / "go", [None] * 3)
    made._fork.set_forkserver_preload(["sys"])
    yield made
    (tmp_path / "go").touch()
    kill_server()


def kill_server():
    pid = forkserver._forkserver._forkserver_pid
    if pid is not None:  # a child of ours: nobody else gets its number before we have waited for it
        os.kill(pid, signal.SIGKILL)


def cells(*names):
    return [SimpleNamespace(run_id=name) for name in names]


def begun(engine, file):
    """A job that is at work."""
    (job,) = engine.start(cells(file.name))
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return job


def end(job, seconds=60):
    deadline = time.monotonic() + seconds
    while (found := job.poll()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def test_a_worker_that_lost_its_fork_server_is_busy_until_it_ends_and_another_one_is_started(engine, tmp_path):
    for number in range(4):
        job = begun(engine, tmp_path / f"lost{number}")
        kill_server()
        assert end(job)[0] is Outcome.BUSY  # the cell is looked at again, and nothing counts as its failure
        assert not alive(job._pid)
    (job,) = engine.start(cells("last"))
    (tmp_path / "go").touch()
    assert end(job) == (Outcome.FINISHED, "done")


def alive(pid):
    """Whether a process is there, and not only waited for by nobody."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_fork_server_that_is_killed_while_it_is_asked_is_started_again(engine, tmp_path):
    stopped = threading.Event()

    def kill_again_and_again():
        for pause in (0.0, 0.03, 0.06):  # fewer than the engine's attempts
            stopped.wait(pause)
            pid = forkserver._forkserver._forkserver_pid
            if pid is not None:
                os.kill(pid, signal.SIGKILL)

    first = begun(engine, tmp_path / "first")
    killer = threading.Thread(target=kill_again_and_again)
    killer.start()
    started = list(engine.start(cells("second", "third")))
    stopped.set()
    killer.join()
    assert end(first)[0] is Outcome.BUSY
    (tmp_path / "go").touch()
    assert {end(job)[0] for job in started} <= {Outcome.FINISHED, Outcome.BUSY}


def test_an_orphan_can_be_killed(engine, tmp_path):
    job = begun(engine, tmp_path / "orphan")
    os.kill(job._pid, signal.SIGSTOP)  # so that it does not see that its parent is gone
    kill_server()
    deadline = time.monotonic() + 60
    while job._process.exitcode is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert job.poll() is None  # a stopped process is none that has ended
    job.kill()
    assert end(job)[0] is Outcome.BUSY


def test_in_the_end_it_gives_up(engine, monkeypatch):
    monkeypatch.setattr(local, "WAITS", (0.0, 0.0))
    attempts = []

    def dies(cell, slot):
        attempts.append(cell)
        raise EOFError("unexpected EOF")

    monkeypatch.setattr(engine, "_launch", dies)
    with pytest.raises(UsageError, match=r"2 attempts in a row: .*EOFError.*enough memory"):
        list(engine.start(cells("never")))
    assert len(attempts) == 2

"""An owner is judged by its process, else by change: no clock and no stopped process blocks for ever."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from sam_bench.store import index, owner
from sam_bench.store.folder import LeaseLost, RunDirectory

DAY = 86400.0


class Clock:
    """This process's monotonic clock, moved by hand."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(owner.time, "monotonic", lambda: self.now)

    def watch(self, run, seconds):
        """Look at the run every ten seconds; whether it can be claimed at the end."""
        for _ in range(int(seconds // 10)):
            if run.claim():
                return True
            self.now += 10.0
        return run.claim()


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def elsewhere(results_dir, monkeypatch):
    """A run that a process on another host has claimed."""
    theirs = owner.identity() | {"host": "other", "machine": "m", "boot": "b"}
    with monkeypatch.context() as patch:
        patch.setattr(owner, "identity", lambda: theirs)
        run = RunDirectory(results_dir, "a", stale_after=100)
        assert run.claim()
    return run


def test_a_sign_of_life_from_the_future_is_not_believed_for_ever(results_dir, monkeypatch, clock):
    theirs = elsewhere(results_dir, monkeypatch)
    (theirs.working / "checkpoint.pt").touch()
    future = time.time() + 365 * DAY
    for path in theirs.working.iterdir():
        os.utime(path, (future, future))
    ours = RunDirectory(results_dir, "a", stale_after=100)
    assert not clock.watch(ours, 90)
    (row,) = index.status(["a"], results_dir)
    assert row["status"] == "running"
    assert "in the future" in row["detail"]
    assert clock.watch(ours, 30)


def test_an_owner_that_gives_signs_keeps_its_run_whatever_its_clock_says(results_dir, monkeypatch, clock):
    theirs = elsewhere(results_dir, monkeypatch)
    ours = RunDirectory(results_dir, "a", stale_after=100)
    for day in range(5):
        odd = time.time() + (day + 1) * DAY
        os.utime(theirs.working / "lease.0", (odd, odd))
        assert not clock.watch(ours, 90)


def test_a_watcher_that_looked_away_begins_again(results_dir, monkeypatch, clock):
    theirs = elsewhere(results_dir, monkeypatch)
    future = time.time() + DAY
    os.utime(theirs.working / "lease.0", (future, future))
    ours = RunDirectory(results_dir, "a", stale_after=100)
    assert not ours.claim()
    clock.now += 10_000.0  # it was stopped, perhaps together with the owner
    assert not ours.claim()
    assert not clock.watch(ours, 90)


STOPPED = """
import signal, os, sys
from pathlib import Path
from sam_bench.store.folder import RunDirectory, LeaseLost
run = RunDirectory(Path(sys.argv[1]), "a", stale_after=100)
assert run.claim()
(run.working / "checkpoint.pt").touch()
os.kill(os.getpid(), signal.SIGSTOP)
try:
    run.heartbeat({"step": 1})
except LeaseLost:
    print("lost")
"""


def test_a_stopped_owner_is_named_and_taken_over_in_the_end(results_dir, clock):
    results_dir.mkdir()
    command = [sys.executable, "-c", STOPPED, results_dir]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        os.waitpid(process.pid, os.WUNTRACED)
        ours = RunDirectory(results_dir, "a", stale_after=100)
        assert not clock.watch(ours, 90)
        (row,) = index.status(["a"], results_dir)
        assert row["status"] == "running"
        assert f"kill -CONT {process.pid}" in row["detail"]
        assert clock.watch(ours, 30)
        process.send_signal(signal.SIGCONT)
        assert process.communicate()[0] == "lost\n"


def test_long_silence_on_another_host_is_named(results_dir, monkeypatch):
    theirs = elsewhere(results_dir, monkeypatch)
    past = time.time() - 300
    os.utime(theirs.working / "lease.0", (past, past))
    (row,) = index.status(["a"], results_dir)
    assert row["status"] == "running"
    assert "no sign of life for 300 s" in row["detail"]
    assert "SAM_BENCH_STALE_AFTER" in row["detail"]


ODD = (None, 0, -1, 1.5, "x\n\x1b", [], {}, True, 1e999)
LEASES = [
    b"",
    b"[]",
    b"{",
    b"null",
    b"[" * 100_000,
    *(json.dumps(dict.fromkeys(owner.Holder.__annotations__, value)).encode() for value in ODD),
]


@pytest.mark.parametrize("content", LEASES)
def test_a_malformed_lease_or_heartbeat_raises_nothing(results_dir, content):
    run = RunDirectory(results_dir, "a", stale_after=100)
    run.working.mkdir(parents=True)
    for name in ("lease.7", "heartbeat.json", "lease.\u00b2", "lease.x", "lease."):
        (run.working / name).write_bytes(content)
    (row,) = index.status(["a"], results_dir)
    assert row["status"] in ("running", "stale", "planned")
    assert row["detail"].isprintable()
    old = time.time() - 101
    for path in run.working.iterdir():
        os.utime(path, (old, old))
    assert run.claim()
    assert run.lease.number == 8
    with pytest.raises(LeaseLost):
        RunDirectory(results_dir, "a").finish({}, [])

"""Who holds the lease of a folder, and whether its owner is still working.

For an owner on this machine, the process itself is checked. Any other owner is judged by its signs of life: the times
of its lease and its heartbeat. Clocks of other machines may be wrong and times may be forged, so a time in the future
shows nothing. Change always counts: an owner whose signs stay the same for long enough, by this process's own monotonic
clock, is gone. This holds for a stopped process too; it finds that its lease is lost when it continues.
"""

import contextlib
import json
import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict, cast

from sam_bench.errors import UsageError
from sam_bench.store.disk import TEXT_LIMIT, open_at, open_folder

PREFIX = "lease."
LEASE = re.compile(rf"{re.escape(PREFIX)}([0-9]+)")
QUIET = 60.0  # seconds; a working owner gives a sign of life every ten

Sign = tuple[tuple[int, int], ...]
# Folder and lease -> its signs, since when they are the same, and when they were last read.
_watched: dict[tuple[int, int, int], tuple[Sign, float, float]] = {}


class Holder(TypedDict, total=False):
    """The content of a lease. A missing key, or one of another type, counts as unknown."""

    host: str
    machine: str
    boot: str
    pid_namespace: str
    pid: int
    started: int | None  # clock ticks since boot
    time: float
    token: str
    released: bool


_KNOWN: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("host", "machine", "boot", "pid_namespace", "token"), lambda v: isinstance(v, str)),
    "pid": lambda v: type(v) is int and 0 < v < 2**31,
    "started": lambda v: v is None or type(v) is int,
    "released": lambda v: isinstance(v, bool),
}


def identity() -> Holder:
    """What identifies this process among all machines, containers and boots that share the folder."""
    return {
        "host": socket.gethostname(),
        "machine": _text("/etc/machine-id"),
        "boot": _text("/proc/sys/kernel/random/boot_id"),
        "pid_namespace": _pid_namespace(),
        "pid": os.getpid(),
        "started": _start_time(os.getpid()),
        "time": time.time(),
    }


def newest(folder: int) -> int | None:
    """The number of the lease that counts in an open folder."""
    return max(numbers(folder), default=None)


def numbers(folder: int) -> list[int]:
    """The numbers of all leases in an open folder."""
    return [int(found[1]) for name in os.listdir(folder) if (found := LEASE.fullmatch(name))]


def read(folder: int, number: int) -> Holder:
    """The content of a lease; {} if it is gone or unreadable (then only its age decides)."""
    name = f"{PREFIX}{number}"
    try:
        with os.fdopen(open_at(folder, name, Path(name), TEXT_LIMIT), "rb") as file:
            found = json.loads(file.read())
    except (OSError, ValueError, RecursionError, UsageError):
        return {}
    known = {key: found[key] for key in _KNOWN if key in found} if isinstance(found, dict) else {}
    return cast(Holder, {key: value for key, value in known.items() if _KNOWN[key](value)})


def vacant(folder: int, number: int, now: float, stale_after: float) -> bool:
    """Whether nobody works under this lease any more: it is released, or its process is dead or silent for too long."""
    found = read(folder, number)
    if found.get("released"):
        return True
    alive = _alive(found)
    if alive is False:
        return True
    if alive is None and now - _last_sign(folder, number) > stale_after:
        return True
    return _unchanged(folder, number) > stale_after


def owner(folder: Path) -> str:
    """Host and process id of the newest lease's owner, for messages."""
    with contextlib.suppress(OSError, UsageError):
        descriptor = open_folder(folder)
        try:
            return _named(read(descriptor, newest(descriptor) or 0))
        finally:
            os.close(descriptor)
    return "an unknown process"


def silence(folder: Path, stale_after: float) -> str:
    """What is strange about the signs of life of a lease's owner, and what to do; "" for nothing."""
    try:
        descriptor = open_folder(folder)
    except (OSError, UsageError):
        return ""
    try:
        number = newest(descriptor)
        if number is None:
            return ""
        found, seconds = read(descriptor, number), time.time() - _last_sign(descriptor, number)
    finally:
        os.close(descriptor)
    rule = f"a sweep that waits takes it over when nothing changes for {stale_after:g} s (SAM_BENCH_STALE_AFTER)"
    pid = found.get("pid", 0)
    if _alive(found) and _state(pid) in ("T", "t"):
        return f"stopped, silent for {seconds:.0f} s: kill -CONT {pid} continues it, kill -9 {pid} ends it; else {rule}"
    if seconds < -QUIET:
        return f"its last sign of life is dated {-seconds:.0f} s in the future, a clock is wrong: {rule}"
    return f"no sign of life for {seconds:.0f} s: is it still at work? If not, {rule}" if seconds > QUIET else ""


def _named(found: Holder) -> str:
    if "pid" not in found or not (host := found.get("host", "")).isprintable():
        return "an unknown process"
    return f"process {found['pid']} on {host[:255]}"


def _alive(found: Holder) -> bool | None:
    """Whether the process of a lease is alive; None if it cannot be checked from here."""
    here = identity()
    same_boot = bool(here["boot"]) and found.get("boot") == here["boot"]
    if same_boot and found.get("pid_namespace") == here["pid_namespace"] and "pid" in found:
        return found.get("started") is not None and _start_time(found["pid"]) == found["started"]
    same_machine = bool(here["machine"]) and (found.get("machine"), found.get("host")) == (
        here["machine"], here["host"])  # fmt: skip
    if same_machine and here["boot"] and found.get("boot") and not same_boot:
        return False  # this machine, before its last reboot
    return None


def _signs(folder: int, number: int) -> Sign:
    """Time (ns, the file system's clock) and inode of the lease and of the heartbeat, if they exist."""
    found = []
    for name in (f"{PREFIX}{number}", "heartbeat.json"):
        with contextlib.suppress(FileNotFoundError):
            entry = os.stat(name, dir_fd=folder, follow_symlinks=False)
            found.append((entry.st_mtime_ns, entry.st_ino))
    return tuple(found)


def _last_sign(folder: int, number: int) -> float:
    """Time (s) of the last sign of life; 0 if there is none."""
    return max((time for time, _ in _signs(folder, number)), default=0) / 1e9


def _unchanged(folder: int, number: int) -> float:
    """For how many seconds this process has seen the same signs of life, without a long pause between two checks.

    A watcher that was stopped itself, perhaps together with the owner, starts to count again.
    """
    where, signs, now = os.fstat(folder), _signs(folder, number), time.monotonic()
    key = (where.st_dev, where.st_ino, number)
    before, since, looked = _watched.get(key, (signs, now, now))
    if before != signs or now - looked > QUIET:
        since = now
    _watched[key] = signs, since, now
    return now - since


def _state(pid: int) -> str:
    """The letter of a process's state in /proc: R, S, T (stopped), Z, ...; "" if there is none."""
    return next(iter(_text(f"/proc/{pid}/stat").rpartition(")")[2].split()), "")


def _start_time(pid: int) -> int | None:
    """Start of a process in clock ticks since boot; None if it is dead or a zombie, or if there is no /proc."""
    fields = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 and fields[0] not in "ZX" else None


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, ValueError):
        return ""

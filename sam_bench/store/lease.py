"""Who may work on a run: leases made by atomic creation, taken over when their owner is gone.

The folder of a run holds `lease.<n>`; the one with the largest n counts. To claim is to create `lease.<n+1>`, whole
and only if it is not there (a hard link does both, on network file systems too), so that of any number of takers one
wins, and a taker that dies leaves one more stale lease instead of a lock that nobody can open. A lease is never
removed by anybody but the owner of a later one: removing a stale lease by name could hit its successor.
"""

import contextlib
import json
import os
import socket
import time
import uuid
from pathlib import Path

from sam_bench.errors import UsageError

STALE_AFTER = 600.0  # seconds without a sign of life after which an owner on another machine counts as gone
PREFIX = "lease."


def default_stale_after() -> float:
    """$SAM_BENCH_STALE_AFTER in seconds, else STALE_AFTER; raises UsageError for what is no positive number."""
    text = os.environ.get("SAM_BENCH_STALE_AFTER") or str(STALE_AFTER)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise UsageError(f"SAM_BENCH_STALE_AFTER={text!r} is no positive number of seconds; the default is 600.")
    return seconds


class Lease:
    """The right to work in one folder.

    `folder` must exist before `acquire`; `stale_after` is in seconds and only used for owners whose process cannot be
    looked at from here (another machine, another container); by default what `default_stale_after` says.
    """

    def __init__(self, folder: Path, stale_after: float | None = None):
        self.folder = folder
        self.stale_after = default_stale_after() if stale_after is None else stale_after
        self.number: int | None = None
        self._token = uuid.uuid4().hex

    def acquire(self) -> bool:
        """Take the lease if it is free or stale; False when somebody else has it. Raises OSError."""
        if self.held():
            return True
        # Everything goes through this descriptor: the folder may be renamed and made anew between two calls.
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        draft = f".lease.{uuid.uuid4().hex}"
        try:
            content = json.dumps({**_identity(), "token": self._token}).encode()
            now = _create(folder, draft, content)
            before = _newest(folder)
            if before is not None and not _vacant(folder, before, now, self.stale_after):
                return False
            number = 0 if before is None else before + 1
            if not _publish(folder, draft, f"{PREFIX}{number}", content):
                return False
            if _newest(folder) != number or not _same_folder(self.folder, folder):
                _remove(folder, f"{PREFIX}{number}")  # what was judged stale had already been taken over, or moved away
                return False
            for older in _numbers(folder):
                if older < number:
                    _remove(folder, f"{PREFIX}{older}")
            self.number = number
            return True
        finally:
            _remove(folder, draft)
            os.close(folder)

    def held(self) -> bool:
        """Whether this object's lease is still the newest one."""
        if self.number is None:
            return False
        try:
            folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return False
        try:  # the token, because the folder may be another one by now; a damaged lease still counts
            found = _newest(folder) == self.number and _read(folder, self.number)
            return found is not False and found.get("token", self._token) == self._token
        finally:
            os.close(folder)

    def renew(self) -> None:
        """Say that the owner lives, without changing anything."""
        if self.number is not None:
            os.utime(self.folder / f"{PREFIX}{self.number}")

    def release(self) -> None:
        """Give the lease back: its file stays, marked as released, so that its number is never used twice."""
        if self.held():
            path = self.folder / f"{PREFIX}{self.number}"
            draft = self.folder / f".lease.{uuid.uuid4().hex}"
            draft.write_text(json.dumps({"released": True}))
            os.replace(draft, path)
        self.number = None


def state(folder: Path, stale_after: float | None = None) -> str:
    """The lease of a folder as seen from outside: "live", "stale" (owner gone) or "free" (released or never taken)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return "free"
    stale_after = default_stale_after() if stale_after is None else stale_after
    try:
        number = _newest(descriptor)
        if number is None or _read(descriptor, number).get("released"):
            return "free"
        return "stale" if _vacant(descriptor, number, time.time(), stale_after) else "live"
    finally:
        os.close(descriptor)


def owner(folder: Path) -> str:
    """Host and process id of the newest lease's owner, for messages."""
    try:
        found = json.loads((folder / f"{PREFIX}{max(_numbers(folder))}").read_bytes())
        return f"process {found['pid']} on {found['host']}"
    except (OSError, ValueError, KeyError):
        return "an unknown process"


def _identity() -> dict:
    """What identifies this process among all machines, containers and boots that may share the folder."""
    return {
        "host": socket.gethostname(),
        "machine": _text("/etc/machine-id"),
        "boot": _text("/proc/sys/kernel/random/boot_id"),
        "pid_namespace": _pid_namespace(),
        "pid": os.getpid(),
        "started": _start_time(os.getpid()),
        "time": time.time(),
    }


def _vacant(folder: int, number: int, now: float, stale_after: float) -> bool:
    """Whether nobody works under this lease any more: released, its process dead, or silent for too long."""
    found = _read(folder, number)
    if found.get("released"):
        return True
    here = _identity()
    same_boot = bool(here["boot"]) and found.get("boot") == here["boot"]
    if same_boot and found.get("pid_namespace") == here["pid_namespace"]:
        return found.get("started") is None or _start_time(found["pid"]) != found["started"]
    same_machine = bool(here["machine"]) and all(found.get(key) == here[key] for key in ("machine", "host"))
    if same_machine and here["boot"] and found.get("boot") and not same_boot:
        return True  # this machine, before its last reboot
    return now - _last_sign(folder, number) > stale_after


def _last_sign(folder: int, number: int) -> float:
    """Time (s, the file system's clock) of the last heartbeat, or of the lease where there is none yet."""
    times = [0.0]
    for name in (f"{PREFIX}{number}", "heartbeat.json"):
        with contextlib.suppress(FileNotFoundError):
            times.append(os.stat(name, dir_fd=folder).st_mtime)
    return max(times)


def _start_time(pid: int) -> int | None:
    """Start of a process in clock ticks since boot; None when it is dead, a zombie, or where there is no /proc."""
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
    except OSError:
        return ""


def _numbers(folder: int | Path) -> list[int]:
    names = (name.removeprefix(PREFIX) for name in os.listdir(folder) if name.startswith(PREFIX))
    return [int(name) for name in names if name.isdigit()]


def _newest(folder: int) -> int | None:
    return max(_numbers(folder), default=None)


def _read(folder: int, number: int) -> dict:
    """The content of a lease; {} when it is gone or unreadable (then its age alone decides)."""
    try:
        descriptor = os.open(f"{PREFIX}{number}", os.O_RDONLY, dir_fd=folder)
        with os.fdopen(descriptor, "rb") as file:
            found = json.loads(file.read())
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def _create(folder: int, name: str, content: bytes) -> float:
    """Create a file that must not exist yet; returns its time (s), which is the file system's idea of now."""
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        return os.fstat(file.fileno()).st_mtime


def _publish(folder: int, draft: str, name: str, content: bytes) -> bool:
    """Make the lease appear, whole, only if it is not there; False if it is."""
    try:
        os.link(draft, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except (FileExistsError, FileNotFoundError):
        return False
    except OSError:  # a file system without hard links: exclusive creation is as safe, only not whole at once
        try:
            _create(folder, name, content)
        except FileExistsError:
            return False
    return True


def _same_folder(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove(folder: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)

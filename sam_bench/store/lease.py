"""Who may work on a run: leases made by atomic creation, taken over when their owner is gone.

The folder of a run holds `lease.<n>`; the one with the largest n counts. To claim is to create `lease.<n+1>`, whole
and only if it is not there (a hard link does both, on network file systems too), so that of any number of takers one
wins, and a taker that dies leaves one more stale lease instead of a lock that nobody can open. A lease is never
removed by anybody but the owner of a later one: removing a stale lease by name could hit its successor. Whether an
owner is gone is judged in `store.owner`.
"""

import contextlib
import json
import os
import time
import uuid
from pathlib import Path

from sam_bench.errors import UsageError
from sam_bench.store import owner
from sam_bench.store.disk import atomic_write, open_folder
from sam_bench.store.owner import PREFIX

STALE_AFTER = 600.0  # seconds without a sign of life after which an owner counts as gone


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

    `folder` must exist before `acquire`; `stale_after` is the silence, in seconds, after which an owner counts as gone
    whose process is not known to be dead; by default what `default_stale_after` says.
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
        folder = open_folder(self.folder)
        draft = f".lease.{uuid.uuid4().hex}"
        try:
            content = json.dumps({**owner.identity(), "token": self._token}).encode()
            now = _create(folder, draft, content)
            before = owner.newest(folder)
            if before is not None and not owner.vacant(folder, before, now, self.stale_after):
                return False
            number = 0 if before is None else before + 1
            if not _publish(folder, draft, f"{PREFIX}{number}", content):
                return False
            if owner.newest(folder) != number or not _same_folder(self.folder, folder):
                _remove(folder, f"{PREFIX}{number}")  # what was judged stale had already been taken over, or moved away
                return False
            for older in owner.numbers(folder):
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
            folder = open_folder(self.folder)
        except (FileNotFoundError, UsageError):
            return False
        try:  # the token, because the folder may be another one by now; a damaged lease still counts
            newest = owner.newest(folder) == self.number
            return newest and owner.read(folder, self.number).get("token", self._token) == self._token
        finally:
            os.close(folder)

    def renew(self) -> None:
        """Say that the owner lives, without changing anything."""
        if self.number is not None:
            os.utime(self.folder / f"{PREFIX}{self.number}", follow_symlinks=False)

    def release(self) -> None:
        """Give the lease back: its file stays, marked as released, so that its number is never used twice."""
        if self.held():
            content = json.dumps({"released": True}).encode()
            atomic_write(self.folder / f"{PREFIX}{self.number}", content, sync=False)
        self.number = None


def state(folder: Path, stale_after: float | None = None) -> str:
    """The lease of a folder as seen from outside: "live", "stale" (owner gone) or "free" (released or never taken)."""
    try:
        descriptor = open_folder(folder)
    except FileNotFoundError:
        return "free"
    stale_after = default_stale_after() if stale_after is None else stale_after
    try:
        number = owner.newest(descriptor)
        if number is None or owner.read(descriptor, number).get("released"):
            return "free"
        return "stale" if owner.vacant(descriptor, number, time.time(), stale_after) else "live"
    finally:
        os.close(descriptor)


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
    with contextlib.suppress(FileNotFoundError, IsADirectoryError, PermissionError):  # a folder is none of ours
        os.unlink(name, dir_fd=folder)

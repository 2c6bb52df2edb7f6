"""Who may work on a run: a lease is created atomically, and another process takes it over if its owner is gone.

The folder of a run holds files `lease.<n>`; the one with the largest n counts. A process claims the run by creating
`lease.<n+1>`, completely and only if that does not exist. (A hard link does both, also on network file systems.) So
only one of several processes wins. If it dies, it leaves a stale lease, not a lock that nobody can open. Only the owner
of a later lease removes a lease, because removing a stale one by name could hit its successor. `store.owner` decides
whether an owner is gone.
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

STALE_AFTER = 600.0  # an owner counts as gone after this many seconds without a sign of life


def default_stale_after() -> float:
    """$SAM_BENCH_STALE_AFTER in seconds, else STALE_AFTER; raises UsageError if that is not a positive number."""
    text = os.environ.get("SAM_BENCH_STALE_AFTER") or str(STALE_AFTER)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise UsageError(f"SAM_BENCH_STALE_AFTER={text!r} is not a positive number of seconds; the default is 600.")
    return seconds


class Lease:
    """The right to work in one folder.

    `folder` must exist before `acquire`. An owner whose process is not known to be dead counts as gone after
    `stale_after` seconds of silence; the default is `default_stale_after`.
    """

    def __init__(self, folder: Path, stale_after: float | None = None):
        self.folder = folder
        self.stale_after = default_stale_after() if stale_after is None else stale_after
        self.number: int | None = None
        self._token = uuid.uuid4().hex

    def acquire(self) -> bool:
        """Take the lease if it is free or stale; False if another process has it. Raises OSError."""
        if self.held():
            return True
        # All calls use this descriptor, because the folder may be renamed and made anew between two calls.
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
                _remove(folder, f"{PREFIX}{number}")  # it had already been taken over, or moved away
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
        try:  # compares the token, because the folder may be another one by now; a damaged lease still counts
            newest = owner.newest(folder) == self.number
            return newest and owner.read(folder, self.number).get("token", self._token) == self._token
        finally:
            os.close(folder)

    def renew(self) -> None:
        """Show that the owner is alive, by the time of the file alone."""
        if self.number is not None:
            os.utime(self.folder / f"{PREFIX}{self.number}", follow_symlinks=False)

    def release(self) -> None:
        """Release the lease: its file stays, marked as released, so that its number is never used again."""
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
    """Create a file that must not exist yet; returns its time (s), which is now by the file system's clock."""
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        return os.fstat(file.fileno()).st_mtime


def _publish(folder: int, draft: str, name: str, content: bytes) -> bool:
    """Create the lease atomically and completely; False if it exists already."""
    try:
        os.link(draft, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except (FileExistsError, FileNotFoundError):
        return False
    except OSError:  # a file system without hard links: exclusive creation is as safe, but the file is empty at first
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
    with contextlib.suppress(FileNotFoundError, IsADirectoryError, PermissionError):  # a folder is not a lease of ours
        os.unlink(name, dir_fd=folder)

"""One run on disk: claimed by a lease, written whole or not at all, never edited.

`RESULTS/runs/<run_id>/` holds a finished run (`record.json`, `curve.csv`, `best.pt`). `<run_id>.running/` holds a run
that is in progress or was interrupted (checkpoint, lease, heartbeat). `<run_id>.failed/` holds the last failed attempt.
A kill at any moment leaves one of these complete: `record.json` is written last, and then the folder is renamed.
"""

import contextlib
import errno
import math
import os
import re
import stat
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sam_bench.api import Record
from sam_bench.errors import UsageError
from sam_bench.store.disk import (
    Astray,
    advice,
    atomic_write,
    file_checksum,
    need_real_folder,
    open_folder,
    sync_folder,
)
from sam_bench.store.lease import Lease
from sam_bench.store.owner import owner
from sam_bench.store.plain_json import as_json, as_json_with_checksum, decode
from sam_bench.store.record import SCHEMA, as_csv, checked, damaged_files, read_record

FILES = ("best.pt", "curve.csv")  # the other files of a run; record.json has their checksums
HEARTBEAT_EVERY = 1.0  # seconds
RENEW_EVERY = 10.0  # seconds
# The names that this program uses. It never deletes any other file, because that belongs to somebody else.
LEASES = re.compile(r"\.?lease\.[0-9a-f]+(\.[0-9a-f]{32})?")
DRAFTS = re.compile(
    r"\.(heartbeat\.json|record\.json|curve\.csv|best\.pt|checkpoint\.pt)\.[0-9a-f]{32}|checkpoint\.pt\.[0-9]+\.tmp"
)
WORKING = re.compile(rf"{DRAFTS.pattern}|checkpoint(\.previous)?\.pt|heartbeat\.json")
WRITTEN = re.compile(rf"{WORKING.pattern}|{LEASES.pattern}|record\.json|curve\.csv|best\.pt")


class LeaseLost(UsageError):
    """Another process has taken over this run, because this one was silent for too long. It must stop writing."""


class RunDirectory:
    """One run on disk: `claim` it, send heartbeats, then `finish`, `fail` or `release` it.

    Every writing method raises UsageError if the disk is full or not writable, and LeaseLost if another process has
    taken over the run. `stale_after` (s) as in `lease.Lease`.
    """

    def __init__(self, results_dir: Path, run_id: str, stale_after: float | None = None):
        runs = Path(results_dir) / "runs"
        self.run_id = run_id
        self.final = runs / run_id
        self.working = runs / f"{run_id}.running"
        self.failed = runs / f"{run_id}.failed"
        self.lease = Lease(self.working, stale_after)
        self._last_heartbeat = -math.inf
        self._made: list[Path] = []  # folders made for the claim, removed if the claim fails

    @property
    def finished(self) -> bool:
        """Whether the run has its final record."""
        return os.path.lexists(self.final)

    def claim(self) -> bool:
        """Claim the run, to start or resume it in `working`; False if it is finished or another process works on it."""
        with advice(self.working):
            for path in (self.final, self.working, self.failed):
                need_real_folder(path, 2)
            self._made = [path for path in list(self.working.parents)[:2] if not path.exists()]
            while not self.finished:
                self.working.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileExistsError, FileNotFoundError):
                    os.mkdir(self.working)
                try:
                    _need_regular(self.working)
                    taken = self.lease.acquire()
                except FileNotFoundError:  # its owner finished and renamed the folder meanwhile
                    taken = False
                if self.finished:  # the run became final meanwhile, so this folder holds only leases
                    self._give_back()
                elif not taken:
                    return False
                elif not self._complete_interrupted_end():
                    self._tidy()
                    return True
            return False

    @contextlib.contextmanager
    def alive(self) -> Iterator[None]:
        """Renew the lease from a thread in the block: set-up and evaluation take long and send no heartbeats."""
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(min(RENEW_EVERY, self.lease.stale_after / 4)):
                with contextlib.suppress(OSError):
                    self.lease.renew()

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def heartbeat(self, info: Mapping[str, Any]) -> None:
        """Report that the run is alive and how far it is (step, steps, epoch, metric); at most once a second."""
        now = time.monotonic()
        if now - self._last_heartbeat < HEARTBEAT_EVERY:
            return
        self._check_lease()
        self._last_heartbeat = now
        with contextlib.suppress(UsageError):  # a full disk stops the run at its next checkpoint, not at a heartbeat
            atomic_write(self.working / "heartbeat.json", as_json({**info, "time": time.time()}), sync=False)

    def release(self) -> None:
        """Release the run unfinished: the next claim resumes it from the files in `working`, if there are any."""
        with advice(self.working):
            self._give_back()

    def finish(self, record: Mapping[str, Any], curve_rows: Sequence[Mapping[str, Any]]) -> Path:
        """Write the record and its curve (one row per epoch) and make the run final; returns its folder."""
        self._check_lease()
        record = self._complete(record, "finished")
        checked(decode(as_json_with_checksum(record)))  # before anything is written
        self._write(record, curve_rows)
        self._settle(self.final)
        return self.final

    def fail(
        self, error: Mapping[str, Any], record: Mapping[str, Any], curve_rows: Sequence[Mapping[str, Any]] = ()
    ) -> Path:
        """Write why the run failed (type, message, traceback, step); replaces an earlier failed attempt."""
        self._check_lease()
        self._write(self._complete({**record, "error": dict(error)}, "failed"), curve_rows)
        self._settle(self.failed)
        return self.failed

    def _write(self, record: Mapping[str, Any], curve_rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the record last: with it and the files whose checksums it has, the run is complete."""
        if curve_rows or record["status"] == "finished":
            atomic_write(self.working / "curve.csv", as_csv(curve_rows))
        files = {name: file_checksum(path) for name in FILES if os.path.lexists(path := self.working / name)}
        atomic_write(self.working / "record.json", as_json_with_checksum({**record, "files": files}))

    def _complete(self, record: Mapping[str, Any], status: str) -> dict[str, Any]:
        head = {"schema": SCHEMA, "run_id": self.run_id}
        return {**head, **record, **head, "status": status}

    def _check_lease(self) -> None:
        if not self.lease.held():
            raise LeaseLost(
                f"{self.run_id} is no longer this process's: {owner(self.working)} has taken it over. "
                "Nothing was written; let the other one finish."
            )

    def _settle(self, target: Path) -> None:
        """Delete what only a running run needs and rename the folder, with the lease still in it."""
        with advice(target):
            _discard(self.working, WORKING)
            if target == self.failed and os.path.lexists(target):
                target.rename(target.with_name(f".{target.name}.{uuid.uuid4().hex}"))
            try:
                self.working.rename(target)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    hint = "is never overwritten. Move it away to repeat the run."
                    raise UsageError(f"{target} exists already and {hint}") from None
                raise
            _discard(target, LEASES)
            sync_folder(target.parent)
            for path in target.parent.iterdir():
                if re.fullmatch(rf"\.{re.escape(target.name)}\.[0-9a-f]{{32}}", path.name):
                    _remove_folder(path)
        self.lease.number = None

    def _complete_interrupted_end(self) -> bool:
        """Rename the folder if its owner wrote the record but died before the rename. Needs the lease."""
        record: Record | None = None
        with contextlib.suppress(UsageError):
            record = read_record(self.working)
        if record is None or damaged_files(self.working, record):
            (self.working / "record.json").unlink(missing_ok=True)
            return False
        self._settle(self.final if record["status"] == "finished" else self.failed)
        return True

    def _give_back(self) -> None:
        if self.lease.held() and self._is_empty():
            self._remove_working()
        else:
            self.lease.release()

    def _is_empty(self) -> bool:
        return all(LEASES.fullmatch(name) or name == "heartbeat.json" for name in os.listdir(self.working))

    def _remove_working(self) -> None:
        """Remove the folder; needs the lease. It is renamed first, so that a claim at this moment finds no folder."""
        waste = self.working.with_name(f".{self.working.name}.{uuid.uuid4().hex}")
        self.working.rename(waste)
        self.lease.number = None
        _remove_folder(waste)
        with contextlib.suppress(OSError):  # not empty
            for path in self._made:
                path.rmdir()

    def _tidy(self) -> None:
        """Delete the unfinished files of a killed owner, which would fill the disk."""
        _discard(self.working, DRAFTS)


def _discard(path: Path, names: re.Pattern[str]) -> None:
    """Delete the files of these names in a real folder; no folder, and never the target of a link."""
    folder = open_folder(path)
    try:
        for name in filter(names.fullmatch, os.listdir(folder)):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError, PermissionError):
                os.unlink(name, dir_fd=folder)
    finally:
        os.close(folder)


def _need_regular(path: Path) -> None:
    """Raise Astray if something in a run's folder has a name of ours and is not a regular file."""
    folder = open_folder(path)
    try:
        for name in filter(WRITTEN.fullmatch, os.listdir(folder)):
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    raise Astray(path / name, "is a link, a folder or a special file")
    finally:
        os.close(folder)


def _remove_folder(path: Path) -> None:
    """Delete the files that a run wrote, and its folder unless other files are in it."""
    with contextlib.suppress(OSError, UsageError):
        _discard(path, WRITTEN)
        path.rmdir()

"""Writing files that are there whole or not at all, and saying what to try where a disk refuses."""

import contextlib
import errno
import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from sam_bench.errors import UsageError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PROTECTED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR)
FAULTY = (errno.EIO, errno.ESTALE, errno.ENXIO, errno.ETIMEDOUT)


@contextlib.contextmanager
def advice(path: Path) -> Iterator[None]:
    """Turn the errors of a full, protected or faulty disk into a UsageError that says what to try."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            hint = "No space is left: free some and give the same command again, it resumes."
        elif error.errno in PROTECTED:
            hint = "Choose a folder that may be written; for records it is SAM_BENCH_RESULTS=/some/folder."
        elif error.errno in FAULTY:
            hint = "The file system fails: give the same command again when it works, it resumes."
        else:
            raise
        raise UsageError(f"Cannot write {path}: {error.strerror}. {hint}") from error


def atomic_write(path: Path, data: bytes, sync: bool = True) -> None:
    """Write a file so that its old or its new content is there, whole, whatever happens. Raises UsageError."""
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with advice(path):
        try:
            with open(draft, "xb") as file:
                file.write(data)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(draft, path)
            if sync:
                sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):  # what matters is why it could not be written
                draft.unlink(missing_ok=True)
            raise


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

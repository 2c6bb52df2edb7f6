"""Write files completely or not at all, and open only real folders and regular files in a results folder.

A results folder may come from somebody else. So no link is followed below it. `depth` says for how many names at the
end of a path this rule holds. Links above the results folder are the user's own and are followed.
"""

import contextlib
import errno
import hashlib
import os
import stat
import uuid
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from sam_bench.errors import UsageError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PROTECTED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR)
FAULTY = (errno.EIO, errno.ESTALE, errno.ENXIO, errno.ETIMEDOUT)
ASTRAY = (errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EISDIR)  # a link, not a folder, a pipe, a folder
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # opening a pipe without a writer would block for ever
TEXT_LIMIT = 2**26  # bytes of a record, a curve or a lease, which take kilobytes
WEIGHTS_LIMIT = 2**35  # bytes of weights and checkpoints


class Astray(UsageError):
    """A link, a special file or a far too large file in place of a file or folder of the results folder."""

    def __init__(self, path: Path, what: str):
        super().__init__(
            f"{str(path)!r} {what}: sam-bench does not touch it. Look where it comes from and move it away."
        )


@contextlib.contextmanager
def advice(path: Path) -> Iterator[None]:
    """Turn errors of a full, read-only or broken disk into a UsageError that says what to try."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            hint = "No space is left: free some and run the same command again, it resumes."
        elif error.errno in PROTECTED:
            hint = "Choose a writable folder; for records set SAM_BENCH_RESULTS=/some/folder."
        elif error.errno in FAULTY:
            hint = "The file system fails: run the same command again when it works, it resumes."
        else:
            raise
        raise UsageError(f"Cannot write {path}: {error.strerror}. {hint}") from error


def atomic_write(path: Path, data: bytes, sync: bool = True) -> None:
    """Write a file so that its old or its new content always exists completely. Raises UsageError."""
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
            with contextlib.suppress(OSError):  # the first error says why it could not be written
                draft.unlink(missing_ok=True)
            raise


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that the names in it survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_folder(path: Path, depth: int = 2) -> int:
    """A descriptor of a real folder, which the caller closes. Raises Astray for a link, FileNotFoundError, OSError."""
    path = path.absolute()
    folder = os.open(path.parents[depth - 1], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in path.parts[-depth:]:
        outer = folder
        try:
            folder = os.open(name, FOLDER, dir_fd=outer)
        except OSError as error:
            raise (Astray(path, "is a link or not a folder") if error.errno in ASTRAY else error) from None
        finally:
            os.close(outer)
    return folder


def need_real_folder(path: Path, depth: int = 1) -> None:
    """Raise Astray if `path` is a link or not a folder; it need not exist."""
    with contextlib.suppress(FileNotFoundError):
        os.close(open_folder(path, depth))


def open_at(folder: int, name: str, path: Path, limit: int, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a regular file in an open folder; `path` is its name in messages. Raises Astray, OSError."""
    try:
        descriptor = os.open(name, FILE | flags, 0o644, dir_fd=folder)
    except OSError as error:
        raise (Astray(path, "is a link or a special file") if error.errno in ASTRAY else error) from None
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_size <= limit:
        return descriptor
    os.close(descriptor)
    raise Astray(path, "is too large" if stat.S_ISREG(found.st_mode) else "is no regular file")


def open_file(path: Path, limit: int = TEXT_LIMIT, depth: int = 3) -> BufferedReader:
    """Open a regular file of at most `limit` bytes for reading. Raises Astray, FileNotFoundError, OSError."""
    folder = open_folder(path.parent, depth - 1)
    try:
        return os.fdopen(open_at(folder, path.name, path, limit), "rb")
    finally:
        os.close(folder)


def file_checksum(path: Path, depth: int = 3) -> str:
    """SHA-256 of a regular file, in hex. Raises Astray, FileNotFoundError, OSError."""
    with open_file(path, WEIGHTS_LIMIT, depth) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_file(path: Path, limit: int = TEXT_LIMIT, depth: int = 3) -> bytes:
    """The content of a regular file. Raises Astray, FileNotFoundError, OSError."""
    with open_file(path, limit, depth) as file:
        content = file.read(limit + 1)
    if len(content) > limit:  # the file grows, or does not say how large it is
        raise Astray(path, "is too large")
    return content


def open_log(path: Path) -> int:
    """A descriptor that appends to a log in a folder of the results folder. Raises UsageError."""
    with advice(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = open_folder(path.parent, 1)
        try:
            descriptor = open_at(folder, path.name, path, WEIGHTS_LIMIT, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        finally:
            os.close(folder)
    if os.fstat(descriptor).st_nlink > 1:
        os.close(descriptor)
        raise Astray(path, "is the same file as another one (a hard link)")
    return descriptor

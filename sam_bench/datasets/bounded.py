"""Limits on what a file may expand to: a few kilobytes of gzip can hold a terabyte."""

import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import IO

from sam_bench.errors import UsageError

LARGEST_UNPACKED = 1_000_000_000  # bytes of an archive; CIFAR's have 190 million
SMALLEST_LIMIT = 64_000_000  # bytes that any compressed text may have
MOST_TIMES = 100  # its compressed size; tables of labels reach 30 times, gzip 1,000


class Bounded(io.RawIOBase):
    """The bytes of `source`; beyond `limit` bytes it raises the UsageError that `refuse` makes."""

    def __init__(self, source: IO[bytes] | gzip.GzipFile, limit: int, refuse: Callable[[], UsageError]):
        self.source, self.left, self.refuse = source, limit, refuse

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        """Fill the buffer; raises the UsageError beyond the limit."""
        data = self.source.read(len(buffer))
        self.left -= len(data)
        if self.left < 0:
            raise self.refuse()
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self.source.close()
        super().close()


def open_text(path: Path) -> io.TextIOWrapper:
    """A UTF-8 text file, plain or gzip; reading raises UsageError if it expands to far more than a data set needs."""
    # utf-8-sig: spreadsheet programs put a byte order mark in front of the first column's name
    if path.suffix != ".gz":
        return open(path, encoding="utf-8-sig", newline="")
    limit = max(SMALLEST_LIMIT, MOST_TIMES * path.stat().st_size)
    packed = gzip.open(path, "rb")  # noqa: SIM115 - closed with the text
    source = Bounded(packed, limit, lambda: too_much(path, limit))
    return io.TextIOWrapper(io.BufferedReader(source), encoding="utf-8-sig", newline="")


def too_much(path: Path, limit: int) -> UsageError:
    """The error for a file that expands to more than `limit` bytes."""
    return UsageError(
        f"{path} expands to more than {limit / 1e6:.0f} MB and is not read on: that is no plausible data set. If it is "
        "one, unpack it yourself."
    )

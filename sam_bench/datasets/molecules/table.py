"""Read a csv of SMILES and labels, with an error message for each way in which such a file can be broken."""

import codecs
import csv
import gzip
import hashlib
import math
import re
import zlib
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from sam_bench.datasets.bounded import open_text
from sam_bench.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import _csv

_NOT_UTF8 = (
    "is not UTF-8 text. Save it as UTF-8, for instance with `iconv -f {} -t utf-8`; a compressed file must end in .gz."
)
LARGEST = float(np.finfo(np.float32).max)  # training uses float32 labels
MISSING = {"", "na", "n/a", "nan", "none", "null"}


@dataclass(frozen=True)
class Table:
    """SMILES and labels of N molecules: targets (N, k) float64 with NaN = missing, lines (N,) in the file, from 1."""

    path: Path
    smiles: list[str]
    targets: np.ndarray
    target_names: tuple[str, ...]
    lines: np.ndarray

    def sha256(self) -> str:
        """Checksum of SMILES and labels, which does not depend on the layout of the file."""
        digest = hashlib.sha256("\n".join(self.smiles).encode())
        digest.update(np.where(np.isnan(self.targets), np.nan, self.targets).astype("<f8").tobytes())
        return digest.hexdigest()


def read_csv_table(path: Path, smiles: str | None, targets: Sequence[str] | None, kind: str) -> Table:
    """The table in `path`, with the SMILES of column `smiles` and the labels of columns `targets`.

    The file is a csv or csv.gz with commas, semicolons, tabs or bars. `smiles` None is the first column and `targets`
    None all others: the layout of chemprop and GROVER. Raises UsageError for a file that cannot be read, for a missing
    column, and, with the line, for a label that is not a number (for kind "binary": not 0 or 1).
    """
    with _clear_errors(path), open_text(path) as stream:
        rows = _reader(stream)
        header = [name.strip() for name in next(rows, [])]
        _check_header(path, header, named=targets is not None)
        places = _places(header)
        smiles_at = 0 if smiles is None else _column(path, header, places, smiles)
        named = targets is not None
        if targets is None:
            targets = [name for i, name in enumerate(header) if i != smiles_at]
        targets_at = [_column(path, header, places, name) for name in targets]
        if not targets_at:
            raise UsageError(f"{path} has no column of labels beside {header[smiles_at]!r}.")
        twice = {name: places[name] for name in [header[smiles_at], *targets] if len(places[name]) > 1}
        texts, lines, labels = [], array("q"), array("d")
        for row in rows:
            if row:
                _check_row(path, rows.line_num, header, twice, row)
                texts.append(row[smiles_at].strip())
                lines.append(rows.line_num)
                labels.extend(_numbers(path, rows.line_num, header, targets_at, row, named))
    if not texts:
        raise UsageError(f"{path} has a header but no rows.")
    at, values = np.array(lines), np.array(labels).reshape(len(texts), len(targets_at))
    _check_usable(path, values, targets, at)
    if kind == "binary":
        _check_binary(path, values, targets, at)
    return Table(path, texts, values, tuple(targets), at)


def columns(path: Path) -> list[str]:
    """The column names of `path`; raises UsageError if it cannot be read or is empty."""
    with _clear_errors(path), open_text(path) as stream:
        header = [name.strip() for name in next(_reader(stream), [])]
    _check_header(path, header, named=True)
    return header


def _check_header(path: Path, header: list[str], *, named: bool) -> None:
    """`named`: the columns wanted are, so that a file without a header cannot pass unnoticed."""
    if not any(header):
        raise UsageError(f"{path} is empty.")
    if any("\0" in name for name in header):
        raise UsageError(f"{path} {_NOT_UTF8.format('UTF-16')}")
    numbers = [] if named else [name for name in header if _is_number(name)]
    if numbers:
        raise UsageError(
            f"{path} seems to have no header: its first line is {','.join(header)[:80]!r}. If {numbers[0]} is the name "
            f"of a column, name all columns of labels: 'dataset.targets=[{numbers[0]}]'."
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _reader(stream: TextIO) -> "_csv.Reader":
    """The rows of a csv, separated by commas, or by what its first line has instead."""
    first = stream.readline()
    others = {mark: first.count(mark) for mark in ";\t|"}
    separator = "," if "," in first or not any(others.values()) else max(others, key=others.__getitem__)
    return csv.reader(chain([first] if first else [], stream), delimiter=separator, strict=True)


@contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}.") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder, not a csv file.") from None
    except PermissionError:
        raise UsageError(f"{path} may not be read: permission denied.") from None
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        guess = "UTF-16" if error.object[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "latin1"
        raise UsageError(f"{path} {_NOT_UTF8.format(guess)} (The first byte that is not: 0x{byte:02x}.)") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UsageError(f"{path} is a broken gzip file ({error}); remove it and fetch it again.") from None
    except csv.Error as error:
        raise UsageError(f"{path} is not a csv file: {error}.") from None


def _places(header: list[str]) -> dict[str, list[int]]:
    """The position of each column name, in one pass."""
    places: dict[str, list[int]] = {}
    for i, name in enumerate(header):
        places.setdefault(name, []).append(i)
    return places


def _column(path: Path, header: list[str], places: dict[str, list[int]], name: str) -> int:
    if name in places:
        return places[name][0]
    if len(header) > 1000:  # comparing so many names would take longer than reading the file
        hint = f"It has {len(header)} columns, the first are {header[:5]}."
    else:
        hint = did_you_mean(name, header)
        if len(header) > 30 and not hint.startswith("Did"):
            hint = f"It has {len(header)} columns, the first are {header[:5]}."
    raise UsageError(f"{path} has no column {name!r}. {hint}")


def _check_row(path: Path, line: int, header: list[str], twice: dict[str, list[int]], row: list[str]) -> None:
    """A row must be as wide as the header. A column may appear twice if both are equal (qm8.csv has four such)."""
    if len(row) != len(header):
        raise UsageError(f"{path}, line {line}: {len(row)} fields where the header has {len(header)}.")
    for name, places in twice.items():
        if any(row[i] != row[places[0]] for i in places):
            raise UsageError(f"{path} has {len(places)} different columns {name!r}; rename them.")


def _numbers(path: Path, line: int, header: list[str], columns: list[int], row: list[str], named: bool) -> list[float]:
    try:
        return [float(row[i] or "nan") for i in columns]
    except ValueError:
        return [_number(path, line, header[i], row[i], named) for i in columns]


def _number(path: Path, line: int, column: str, text: str, named: bool) -> float:
    try:
        return float(text)
    except ValueError:
        if text.strip().lower() in MISSING:
            return math.nan
        hint = " Write decimals with a point." if re.fullmatch(r"\s*[-+]?\d*,\d+\s*", text) else ""
        if not named and not hint:
            hint = (
                " It is taken for a label, because no columns are named: dataset.smiles=COLUMN dataset.targets=[COLUMN]"
            )
        raise UsageError(f"{path}, line {line}: {text[:80]!r} in column {column!r} is not a number.{hint}") from None


def _check_usable(path: Path, labels: np.ndarray, names: Sequence[str], lines: np.ndarray) -> None:
    """Raise UsageError for a number outside float32, and for a target without any label."""
    if (beyond := np.abs(labels) > LARGEST).any():  # False for NaN
        row, column = np.argwhere(beyond)[0]
        raise UsageError(
            f"{path}, line {lines[row]}: {labels[row, column]:g} in column {names[column]!r} is infinite, or larger "
            f"than {LARGEST:.1e}, the most that float32 holds."
        )
    if (empty := np.isnan(labels).all(0)).any():
        name = names[int(np.argmax(empty))]
        raise UsageError(f"{path} has no label at all in column {name!r}: leave that target out.")


def _check_binary(path: Path, labels: np.ndarray, names: Sequence[str], lines: np.ndarray) -> None:
    wrong = ~(np.isnan(labels) | (labels == 0) | (labels == 1))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise UsageError(
            f"{path}, line {lines[row]}: {labels[row, column]:g} in column {names[column]!r} is neither 0 nor 1; "
            f"classes are 0 and 1, other numbers need dataset.kind=regression."
        )

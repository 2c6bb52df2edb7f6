"""Read a csv of SMILES and labels; every way in which such a file can be broken has its message."""

import codecs
import csv
import gzip
import hashlib
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sam_bench.errors import UsageError, did_you_mean

_NOT_UTF8 = (
    "is not UTF-8 text. Save it as UTF-8, for instance with `iconv -f {} -t utf-8`; a compressed file must end in .gz."
)
LARGEST = float(np.finfo(np.float32).max)  # labels are trained on in float32
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
        """Checksum of SMILES and labels: the same for every file layout that holds the same data."""
        digest = hashlib.sha256("\n".join(self.smiles).encode())
        digest.update(np.where(np.isnan(self.targets), np.nan, self.targets).astype("<f8").tobytes())
        return digest.hexdigest()


def read_csv_table(path: Path, smiles: str | None, targets: Sequence[str] | None, kind: str) -> Table:
    """The table in `path` (csv, or csv.gz), with the SMILES of column `smiles` and the labels of columns `targets`.

    `smiles` None is the first column and `targets` None all others (the layout of chemprop and GROVER). Raises
    UsageError, with the line, for a file that cannot be read, a missing column or a label that is not a number (not
    0 or 1, for kind "binary").
    """
    with _clear_errors(path), _open(path) as stream:
        rows = csv.reader(stream, strict=True)
        header = [name.strip() for name in next(rows, [])]
        _check_header(path, header, named=targets is not None)
        smiles_at = 0 if smiles is None else _column(path, header, smiles)
        if targets is None:
            targets = [name for i, name in enumerate(header) if i != smiles_at]
        targets_at = [_column(path, header, name) for name in targets]
        if not targets_at:
            raise UsageError(f"{path} has no column of labels beside {header[smiles_at]!r}.")
        read_rows = [(rows.line_num, row) for row in rows if row]
    _check_widths(path, read_rows, len(header))
    _check_twice(path, header, [header[smiles_at], *targets], read_rows)
    if not read_rows:
        raise UsageError(f"{path} has a header and no row.")
    lines = np.array([line for line, _ in read_rows])
    labels = np.array([_numbers(path, line, header, targets_at, row) for line, row in read_rows])
    _check_usable(path, labels, targets, lines)
    if kind == "binary":
        _check_binary(path, labels, targets, lines)
    texts = [row[smiles_at].strip() for _, row in read_rows]
    return Table(path, texts, labels, tuple(targets), lines)


def columns(path: Path) -> list[str]:
    """The column names of `path`; raises UsageError if it cannot be read or is empty."""
    with _clear_errors(path), _open(path) as stream:
        header = [name.strip() for name in next(csv.reader(stream, strict=True), [])]
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


def _open(path: Path):
    # utf-8-sig: spreadsheet programs put a byte order mark in front of the first column's name
    opener = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8-sig", newline="")


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


def _column(path: Path, header: list[str], name: str) -> int:
    if name in header:
        return header.index(name)
    hint = did_you_mean(name, header)
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        hint = f"The first line is {header[0][:80]!r}: columns must be separated by commas."
    elif len(header) > 30:
        hint = hint if hint.startswith("Did") else f"It has {len(header)} columns, the first are {header[:5]}."
    raise UsageError(f"{path} has no column {name!r}. {hint}")


def _check_widths(path: Path, rows: list[tuple[int, list[str]]], width: int) -> None:
    for line, row in rows:
        if len(row) != width:
            raise UsageError(f"{path}, line {line}: {len(row)} fields where the header has {width}.")


def _check_twice(path: Path, header: list[str], names: Sequence[str], rows: list[tuple[int, list[str]]]) -> None:
    """A column may appear twice if it is the same twice (MoleculeNet's qm8.csv repeats four)."""
    for name in names:
        if header.count(name) > 1:
            first, *others = (i for i, known in enumerate(header) if known == name)
            if any(row[first] != row[i] for _, row in rows for i in others):
                raise UsageError(f"{path} has {len(others) + 1} different columns {name!r}; rename them.")


def _numbers(path: Path, line: int, header: list[str], columns: list[int], row: list[str]) -> list[float]:
    try:
        return [float(row[i] or "nan") for i in columns]
    except ValueError:
        return [_number(path, line, header[i], row[i]) for i in columns]


def _number(path: Path, line: int, column: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        if text.strip().lower() in MISSING:
            return math.nan
        raise UsageError(f"{path}, line {line}: {text!r} in column {column!r} is not a number.") from None


def _check_usable(path: Path, labels: np.ndarray, names: Sequence[str], lines: np.ndarray) -> None:
    """Raise UsageError for a number that training cannot hold, and for a target without any."""
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

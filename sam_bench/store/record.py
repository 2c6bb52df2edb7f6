"""The content of record.json and curve.csv: how they are written, what they must hold, how they are read.

`sam_bench.api` has the types of a record (docs/record.md). Every record is read through one function, which checks it
against these types and its checksum. So the rest of the code can rely on the types.
"""

import csv
import io
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sam_bench.api import Failed, Finished, Record, Spent
from sam_bench.errors import UsageError
from sam_bench.store.disk import file_checksum, read_file
from sam_bench.store.plain_json import content_sha256, decode
from sam_bench.store.schema import Malformed, check, keys

SCHEMA = 2
READABLE = (1, 2)  # schema 1 had no checksum of its own
CURVE_COLUMNS = ("epoch", "step", "grad_evals", "train_seconds", "lr", "sam_fraction", "train/loss")
KINDS: Mapping[str, Any] = {"finished": Finished, "failed": Failed}


def read_record(path: Path) -> Record:
    """The record in a run's folder (or a record.json).

    Raises UsageError, in one line that names the file and the key, for a record that is torn, foreign, newer, edited
    or not a regular file.
    """
    file = path if path.suffix == ".json" else path / "record.json"
    mend = f"Move {file.parent} away and run its experiment again: the sweep repeats only this run."
    try:
        raw = read_file(file)
    except FileNotFoundError:
        raise UsageError(f"{file.parent} holds no record.json. {mend}") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from None
    try:
        record = decode(raw)
    except ValueError as error:
        raise UsageError(f"{file} is not whole ({error}). {mend}") from None
    try:
        return checked(record)
    except Newer as error:
        raise UsageError(f"{file} {error}") from None
    except ValueError as error:
        raise UsageError(f"{file}: {error}. {mend}") from None


class Newer(ValueError):
    """A record of a newer format."""


def checked(record: Any) -> Record:
    """`record` if it has the right types and checksum; raises ValueError that says what is wrong."""
    schema = record.get("schema") if isinstance(record, dict) else None
    if type(schema) is not int:
        raise Malformed("it is not a record of sam_bench, which has a key schema, a whole number")
    if schema not in READABLE:
        raise Newer(f"has schema {schema}, this sam_bench reads {READABLE[0]} to {READABLE[-1]}: update it.")
    kind = KINDS.get(status) if isinstance(status := record.get("status"), str) else None
    if kind is None:
        raise Malformed(f"status is {str(status)[:60]!a}, not {' or '.join(KINDS)}")
    check(record, kind)
    missing = [name for name in keys(Spent) if name not in record] if kind is Finished else []
    if missing:
        raise Malformed(f"the key {missing[0]} is missing")
    if schema > 1 or "sha256" in record:
        if "sha256" not in record:
            raise Malformed("the key sha256 is missing")
        if record["sha256"] != content_sha256(record):
            raise Malformed("sha256 is not the checksum of its content: it was edited after the run wrote it")
    return typing.cast(Record, record)


def damaged_files(folder: Path, record: Mapping[str, Any]) -> list[str]:
    """Names of the files in a run's folder that are missing, or whose checksum differs from the record's."""
    return [name for name in ("best.pt", "curve.csv") if not _is(folder / name, record.get("files", {}).get(name))]


def _is(path: Path, digest: str | None) -> bool:
    """Whether a file has this checksum; without a checksum in the record the file is not read."""
    try:
        return digest is None or file_checksum(path) == digest
    except (OSError, UsageError):
        return False


def as_csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A learning curve as stored text."""
    names = dict.fromkeys([*CURVE_COLUMNS, *(key for row in rows for key in row)])
    text = io.StringIO()
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()

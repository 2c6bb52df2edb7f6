"""Added records: measurements on a finished run. The run's own folder is never changed.

They are files `RESULTS/<kind>/<run_id>-<8 hex>.json`. The digits are a hash of the settings and of the measured
weights, so other settings or other weights make another file. A file is written once, completely, and never edited.
"""

import contextlib
import hashlib
import itertools
import json
import os
import re
import typing
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

from sam_bench.api import Record
from sam_bench.errors import UsageError
from sam_bench.store.disk import advice, need_real_folder, read_file
from sam_bench.store.measurements import Gradients, Landscape, Measurement, Sharpness
from sam_bench.store.plain_json import as_json_with_checksum, content_sha256, decode
from sam_bench.store.schema import Malformed, check

SCHEMA = 2
Kind = Literal["sharpness", "landscape", "gradients"]
READABLE = (1, 2)  # schema 1 had no checksum of its own
KINDS: Mapping[str, Any] = {"sharpness": Sharpness, "landscape": Landscape, "gradients": Gradients}
NAME = re.compile(r"(?P<run_id>.+)-[0-9a-f]{8}\.json")


def place(results_dir: Path, kind: str, run_id: str, settings: Mapping[str, Any], weights_sha256: str) -> Path:
    """The path of the measurement of a run with these settings, which may not exist yet."""
    content = json.dumps([settings, weights_sha256], sort_keys=True)
    return Path(results_dir) / kind / f"{run_id}-{hashlib.sha256(content.encode()).hexdigest()[:8]}.json"


def write(path: Path, content: Mapping[str, Any]) -> bool:
    """Write an added record, completely, unless there is one; returns whether it was written. Raises UsageError."""
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    need_real_folder(path.parent)
    with advice(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(draft, "xb") as file:
                file.write(as_json_with_checksum({"schema": SCHEMA, **content}))
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)  # unlike a rename, a link never replaces a file
                return True
        finally:
            draft.unlink(missing_ok=True)
    return False


def read(path: Path) -> Measurement:
    """One added record; raises UsageError, one line, for a damaged, edited or newer one."""
    try:
        content = decode(read_file(path, depth=2))
        schema = content.get("schema") if isinstance(content, dict) else None
        if type(schema) is int and schema not in READABLE:
            reads = f"{READABLE[0]} to {READABLE[-1]}"
            raise UsageError(f"{path} has schema {schema}, this sam_bench reads {reads}: update it.")
        return _checked(content)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not whole ({error}). Delete it and measure again.") from None


def _checked(content: Any) -> Measurement:
    kind = content.get("kind") if isinstance(content, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise Malformed(f"kind is {str(kind)[:60]!a}, not {' or '.join(KINDS)}")
    check(content, KINDS[kind])
    if content["schema"] > 1 and content.get("sha256") is None:
        raise Malformed("the key sha256 is missing")
    if "sha256" in content and content["sha256"] != content_sha256(content):
        raise Malformed("sha256 is not the checksum of its content: it was edited")
    found = typing.cast(Measurement, content)
    if found["kind"] == "landscape":
        size = len(found["axis"])
        if size < 2 or [len(row) for row in found["losses"]] != [size] * size:
            raise Malformed("losses has other numbers of rows and columns than axis has places, or less than 2")
        if any(low >= high for low, high in itertools.pairwise(found["axis"])):
            raise Malformed("axis does not increase")
        if not any(loss is not None for row in found["losses"] for loss in row):
            raise Malformed("losses has no number")
    if found["kind"] == "gradients":
        _check_rows(found["rows"])
    return found


def _check_rows(rows: Mapping[str, Sequence[float | None]]) -> None:
    """Check that all columns have one length, and that those with the time have no gaps."""
    if len({len(values) for values in rows.values()}) > 1:
        raise Malformed("rows has columns of different lengths")
    for name in ("step", "epoch"):
        if not all(value is not None and 0 <= value < 2**53 for value in rows.get(name, (None,))):
            raise Malformed(f"rows.{name} is missing or has a gap")


@overload
def load(records: Sequence[Record], kind: Literal["sharpness"]) -> dict[str, Sharpness]: ...
@overload
def load(records: Sequence[Record], kind: Literal["landscape"]) -> dict[str, Landscape]: ...
@overload
def load(records: Sequence[Record], kind: Literal["gradients"]) -> dict[str, Gradients]: ...
def load(records: Sequence[Record], kind: Kind) -> Mapping[str, Measurement]:
    """The added records of a kind that belong to these loaded records: {run_id: content}, all with the same settings.

    If there are several settings, the one that most runs share is taken; among equals, the first in alphabetical order.
    A measurement on other data than the record's does not belong to the run and is left out.
    """
    by_settings: dict[str, dict[str, Measurement]] = {}
    for record, path in _beside(records, kind):
        content = read(path)
        if content["kind"] != kind or content["run_id"] != record["run_id"]:
            raise UsageError(f"{path} holds {content['kind']} of {content['run_id']}: its name says something else.")
        if content["data"] == _data(record):
            text = json.dumps(content["settings"], sort_keys=True)
            by_settings.setdefault(text, {})[record["run_id"]] = content
    return min(by_settings.items(), key=lambda item: (-len(item[1]), item[0]), default=("", {}))[1]


def unusable(records: Sequence[Record]) -> list[str]:
    """What is wrong with the added records of these loaded records: one line for each that cannot be used."""
    found = []
    for kind in KINDS:
        try:
            paths = list(_beside(records, kind))
        except UsageError as error:
            found.append(str(error))
            continue
        for _, path in paths:
            try:
                read(path)
            except UsageError as error:
                found.append(str(error))
    return found


def _beside(records: Sequence[Record], kind: str) -> Iterable[tuple[Record, Path]]:
    """The files of a kind that belong to loaded records, each with its record."""
    folders = {Path(record["path"]).parents[1] / kind for record in records if "path" in record}
    files = {folder: _files(folder) for folder in folders}
    for record in records:
        folder = Path(record["path"]).parents[1] / kind if "path" in record else Path()
        for path in files.get(folder, {}).get(record["run_id"], ()):
            yield record, path


def _data(record: Record) -> dict[str, str]:
    seen = record.get("data")
    return {"sha256": seen["sha256"], "split_sha256": seen["split_sha256"]} if seen else {}


def _files(folder: Path) -> dict[str, list[Path]]:
    """The files of a folder by run id, sorted by name."""
    found: dict[str, list[Path]] = {}
    need_real_folder(folder)
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(folder.iterdir()):
            if match := NAME.fullmatch(path.name):
                found.setdefault(match["run_id"], []).append(path)
    return found

"""Added records: what was measured on a finished run afterwards. The run's own folder is never touched.

`RESULTS/<kind>/<run_id>-<8 hex>.json`, the digits being a hash of the settings and of the weights that were measured:
another question, or other weights under the same name, make another file. Written whole, once, never edited.
"""

import contextlib
import hashlib
import json
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from sam_bench.errors import UsageError
from sam_bench.store.disk import advice
from sam_bench.store.record import as_json

SCHEMA = 1
KINDS = ("sharpness", "landscape", "gradients")
NAME = re.compile(r"(?P<run_id>.+)-[0-9a-f]{8}\.json")


def place(results_dir: Path, kind: str, run_id: str, settings: Mapping, weights_sha256: str) -> Path:
    """Where the measurement of a run with these settings lies, or will."""
    content = json.dumps([settings, weights_sha256], sort_keys=True)
    return Path(results_dir) / kind / f"{run_id}-{hashlib.sha256(content.encode()).hexdigest()[:8]}.json"


def write(path: Path, content: Mapping) -> bool:
    """Write an added record whole, if none is there; whether this call did it. Raises UsageError."""
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with advice(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_bytes(as_json({"schema": SCHEMA, **content}))
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)  # unlike a rename it never replaces what is there
                return True
        finally:
            draft.unlink(missing_ok=True)
    return False


def read(path: Path) -> dict:
    """One added record; raises UsageError for a damaged or newer one."""
    try:
        content = json.loads(path.read_bytes())
        schema, kind = content["schema"], content["kind"]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not whole ({error!r}). Delete it and measure again.") from None
    if schema != SCHEMA or kind not in KINDS:
        raise UsageError(f"{path} has schema {schema}, kind {kind}; this sam_bench reads {SCHEMA}, {KINDS}: update it.")
    return content


def load(records: Sequence[Mapping], kind: str) -> dict[str, dict]:
    """The added records of a kind beside these loaded records, {run_id: content}, all with the same settings.

    Where a run was measured several times, the settings that most of the runs share are taken, the first in the order
    of their text among equals. A measurement of other data than the record's is not the run's and is left out.
    """
    folders = {Path(record["path"]).parents[1] / kind for record in records if "path" in record}
    files = {folder: _files(folder) for folder in folders}
    by_settings: dict[str, dict[str, dict]] = {}
    for record in records:
        folder = Path(record["path"]).parents[1] / kind if "path" in record else None
        for path in files.get(folder, {}).get(record["run_id"], ()):
            content = read(path)
            if content["kind"] == kind and content["data"] == _data(record):
                text = json.dumps(content["settings"], sort_keys=True)
                by_settings.setdefault(text, {})[record["run_id"]] = content
    return min(by_settings.items(), key=lambda item: (-len(item[1]), item[0]), default=("", {}))[1]


def _data(record: Mapping) -> dict:
    return {key: record["data"][key] for key in ("sha256", "split_sha256")}


def _files(folder: Path) -> dict[str, list[Path]]:
    """The files of a folder by run id, in the order of their names."""
    found: dict[str, list[Path]] = {}
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(folder.iterdir()):
            if match := NAME.fullmatch(path.name):
                found.setdefault(match["run_id"], []).append(path)
    return found

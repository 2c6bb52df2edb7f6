"""The content of record.json and curve.csv: how they are written, what they must hold, how they are read."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from sam_bench.errors import UsageError
from sam_bench.store.disk import checksum

SCHEMA = 1
CURVE_COLUMNS = ("epoch", "step", "grad_evals", "train_seconds", "lr", "sam_fraction", "train/loss")
REQUIRED = ("schema", "run_id", "status", "labels", "config")
REQUIRED_FINISHED = ("metric", "metrics", "grad_evals", "sam_fraction", "train_seconds", "throughput")


def read_record(path: Path) -> dict:
    """The record in a run's folder (or a record.json). Raises UsageError for a torn, foreign or newer one."""
    file = path if path.suffix == ".json" else path / "record.json"
    mend = f"Move {file.parent} away and run its experiment again: the sweep repeats only this run."
    try:
        record = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"{file.parent} holds no record.json. {mend}") from None
    except ValueError as error:
        raise UsageError(f"{file} is not whole ({error}). {mend}") from None
    missing = [key for key in REQUIRED if not isinstance(record, dict) or key not in record]
    if not missing and record["schema"] != SCHEMA:
        raise UsageError(f"{file} has schema {record['schema']}, this sam_bench reads {SCHEMA}: update it.")
    if not missing and record["status"] == "finished":
        missing = [key for key in REQUIRED_FINISHED if key not in record]
    if missing:
        raise UsageError(f"{file} is not a record of sam_bench (without {', '.join(missing)}). {mend}")
    return record


def damaged_files(folder: Path, record: Mapping) -> list[str]:
    """Names of the files in a run's folder that are missing, or no longer what its record says."""
    paths = {name: folder / name for name in record.get("files", {})}
    return [n for n, path in paths.items() if not path.is_file() or checksum(path) != record["files"][n]]


def as_json(record: Mapping) -> bytes:
    """A record as it is stored; what is not finite becomes null."""
    return (json.dumps(_finite(record), indent=1, allow_nan=False, default=str) + "\n").encode()


def _finite(value):
    """JSON knows no NaN or infinity: null stands for a metric that does not exist."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_csv(rows: Sequence[Mapping]) -> bytes:
    names = dict.fromkeys([*CURVE_COLUMNS, *(key for row in rows for key in row)])
    text = io.StringIO()
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()

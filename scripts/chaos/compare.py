"""What two sweeps must agree in, whatever happened to one of them: everything but the clocks."""

import csv
import io
import json
from pathlib import Path

from sam_bench.errors import UsageError
from sam_bench.store.record import damaged_files, read_record

# Of a record: clocks, what is computed from them, and memory, which depends on what a process did before.
CLOCKS = ("train_seconds", "eval_seconds", "setup_seconds", "throughput", "peak_memory_bytes")
PROVENANCE_CLOCKS = ("started", "finished", "resumed")
# Of a table: the same.
CLOCK_COLUMNS = ("relative_throughput", "timings_disturbed", "throughput", "train_seconds", "peak_memory_bytes")


def essence(folder: Path) -> dict[str, bytes]:
    """The parts of a record without its clocks, and of its curve without the seconds."""
    record = read_record(folder)
    for key in CLOCKS:
        record.pop(key)
    for key in PROVENANCE_CLOCKS:
        record["provenance"].pop(key)
    record.pop("sha256", None)  # of the whole record, clocks included
    record["files"].pop("curve.csv")  # a checksum of seconds, among others; best.pt is compared by its checksum
    parts = {key: json.dumps(value, sort_keys=True).encode() for key, value in record.items()}
    return parts | {"curve.csv": _without((folder / "curve.csv").read_text(), CLOCK_COLUMNS)}


def table_without_clocks(text: str) -> bytes:
    """A table in CSV without the columns of clocks."""
    return _without(text, CLOCK_COLUMNS)


def _without(text: str, columns: tuple[str, ...]) -> bytes:
    rows = [{k: v for k, v in row.items() if k not in columns} for row in csv.DictReader(io.StringIO(text))]
    return json.dumps(rows).encode()


def differences(calm: Path, stormy: Path) -> list[str]:
    """What is lost, doubled, corrupt or different in the runs of `stormy`; [] if nothing is."""
    wanted = {path.name for path in (calm / "runs").iterdir()}
    found = {path.name for path in (stormy / "runs").iterdir() if not path.name.startswith(".")}
    wrong = [f"lost: {name}" for name in sorted(wanted - found)]
    wrong += [f"left over: {name}" for name in sorted(found - wanted)]
    for name in sorted(wanted & found):
        folder = stormy / "runs" / name
        try:
            damaged = damaged_files(folder, read_record(folder))
        except UsageError as error:
            damaged = [str(error)]
        if damaged:
            wrong.append(f"corrupt: {name}: {damaged}")
        else:
            ours, theirs = essence(calm / "runs" / name), essence(folder)
            wrong += [f"different: {name}: {key}: {ours.get(key)} {theirs.get(key)}" for key in ours | theirs
                      if ours.get(key) != theirs.get(key)]  # fmt: skip
    return wrong

"""docs/record.md, made from the types of records: `python -m sam_bench.store.record_page > docs/record.md`."""

import inspect
import typing
from collections.abc import Iterator
from typing import Annotated, Any

from sam_bench import api
from sam_bench.store import heartbeat, measurements
from sam_bench.store.schema import described, keys

HEAD = """\
# What a record holds

This page is generated from the types in `sam_bench/record_types.py` and `sam_bench/store`
(`python -m sam_bench.store.record_page > docs/record.md`); a test compares it to them. Every record is checked against
these types when it is read. A key that is not listed here is kept and ignored.

`RESULTS` is `$SAM_BENCH_RESULTS`, by default `results`. `RESULTS/runs/<run_id>/record.json` is one JSON object in
UTF-8. A key marked `?` may be missing. Numbers are finite: `null` stands for a value that does not exist. Whole numbers
have at most 18 digits, lists and objects are nested at most 40 deep, no key comes twice, and the file has at most 64
MiB.

`sha256` is the checksum of the record itself: SHA-256 of the JSON of all other keys, with sorted keys, without blanks,
in ASCII. In Python:

```python
import hashlib, json

record = json.load(open("record.json"))
stated = record.pop("sha256")
text = json.dumps(record, sort_keys=True, separators=(",", ":"))
assert hashlib.sha256(text.encode()).hexdigest() == stated
```

It shows damage and careless edits. It is no signature: anyone who edits a record can compute a new checksum, or call it
schema 1, which has none. `sam-bench verify` counts the records that carry no checksum.
"""
ADDED = """\
## Added records

`RESULTS/<kind>/<run_id>-<8 hex>.json`: what was measured on a finished run afterwards, with a checksum of the same
kind."""
BEATS = """\
## Heartbeats

`RESULTS/runs/<run_id>.running/heartbeat.json`, gone when the run ends."""
PARTS: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
    ("## Records of runs", api, ("Finished", "Failed")),
    ("## Parts of a record", api, ("Labels", "Configuration", "Training", "Provenance", "Hardware", "Metric", "Data",
                                   "RunError", "Files")),
    (ADDED, measurements, ("Sharpness", "Landscape", "Gradients")),
    ("## Parts of an added record", measurements, ("Seen", "Subset", "SharpnessSettings", "Eigenvalue", "Spread",
                                                   "Trace")),
    (BEATS, heartbeat, ("Heartbeat",)),
)  # fmt: skip


def page() -> str:
    """The page as Markdown."""
    return "\n".join([HEAD, *(line for title, *rest in PARTS for line in (title, "", *_tables(*rest)))])


def _tables(module: Any, names: tuple[str, ...]) -> Iterator[str]:
    for kind in (getattr(module, name) for name in names):
        yield f"### {kind.__name__}\n\n{inspect.cleandoc(kind.__doc__ or '')}\n"
        yield "| key | value | meaning |\n| --- | --- | --- |"
        spent = keys(api.Spent) if kind is api.Finished else {}
        for name, (hint, needed) in keys(kind).items():
            optional = "" if needed or name in spent else " ?"
            yield f"| `{name}`{optional} | {_value(hint)} | {_meaning(hint)} |"
        yield ""


def _value(hint: Any) -> str:
    inner = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
    name = inner.__name__ if typing.is_typeddict(inner) else ""
    words = f"[{name}](#{name.lower()})" if name else described(inner)
    key = typing.get_args(hint)[1]
    if key.least is not None:
        words += f", at least {key.least:g}"
    return words


def _meaning(hint: Any) -> str:
    key: api.Key = typing.get_args(hint)[1]
    return key.meaning.replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")

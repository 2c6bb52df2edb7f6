"""Choose among the cells of an experiment: `--filter optimizer=sam --filter seed=0,1`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sam_bench.api import RunSpec
from sam_bench.errors import UsageError, did_you_mean
from sam_bench.store.identity import spelled


def matching(cells: Sequence[RunSpec], filters: Sequence[str]) -> list[RunSpec]:
    """The cells that every filter `key=value[,value...]` lets through; a key is a label or a key of the configuration.

    Raises UsageError for a filter that cannot be read, an unknown key, and a value that no cell has.
    """
    for text in filters:
        key, separator, values = text.partition("=")
        if not (key and separator and values):
            raise UsageError(f"cannot read --filter {text!r}: write key=value or key=value,value, as in seed=0,1.")
        wanted = dict.fromkeys(value.strip() for value in values.split(","))
        found = {cell.run_id: _value(cell, key) for cell in cells}
        for value in wanted:
            if value not in found.values():
                there = sorted(set(found.values()))
                raise UsageError(f"--filter {text}: no cell has {key}={value}. {did_you_mean(value, there)}")
        cells = [cell for cell in cells if found[cell.run_id] in wanted]
    return list(cells)


def _value(cell: RunSpec, key: str) -> str:
    known = {**dict(_flat(cell.config)), **cell.labels}
    if key not in known:
        raise UsageError(f"--filter {key}: no such key. {did_you_mean(key, known)}")
    return spelled(known[key])


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value

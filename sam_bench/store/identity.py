"""The name of a run: its labels, and a hash of the part of its configuration that determines the result."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

# Keys that do not make another run: where it ran and how it was logged, not what it computed.
WHERE = {"paths", "data_dir", "results_dir", "device", "devices", "threads", "jobs", "hydra", "launcher"}
WATCHED = {"logger", "experiment"}
UNIMPORTANT_WITHIN = {"train": re.compile("checkpoint_.*"), "dataset": re.compile("urls?|licence|unpacked|path")}
# Keys that were added later. With this value a run is the same as before the key existed. A dot means a section.
LATER = {
    "compile": False,
    "test": True,
    "dataset.max_atoms": 600,
    "base.fused": False,
    "model.init": "library",
    "model.kernels": "torch",
}


def run_id(labels: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Name of a run: its labels and 8 hex digits of the hash of the configuration that matters."""
    names = [re.sub(r"[^A-Za-z0-9_.+]", "_", str(labels[key])) for key in ("dataset", "model", "base", "optimizer")]
    digest = hashlib.sha256(json.dumps(important(config), sort_keys=True).encode()).hexdigest()
    return "-".join([*names, f"seed{labels['seed']}", digest[:8]])


def important(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that determines the result, in plain values; 1.0 and 1 are the same value."""
    return {
        str(key): _plain(_without_later(value, f"{key}."), UNIMPORTANT_WITHIN.get(key))
        for key, value in config.items()
        if key not in WHERE | WATCHED and not _is_later(str(key), value)
    }


def _is_later(key: str, value: Any) -> bool:
    return key in LATER and value == LATER[key]


def _without_later(section: Any, prefix: str) -> Any:
    """A section of the configuration without the keys that were added later and have their first value."""
    if not isinstance(section, (dict, Mapping)):
        return section
    return {key: value for key, value in section.items() if not _is_later(f"{prefix}{key}", value)}


def _plain(value: Any, left_out: re.Pattern[str] | None) -> Any:
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, (dict, Mapping)):
        kept = {str(key): item for key, item in value.items() if not (left_out and left_out.fullmatch(str(key)))}
        return {key: _plain(item, left_out) for key, item in kept.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, left_out) for item in value]
    return str(value)

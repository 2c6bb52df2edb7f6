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

Texts = dict[tuple[str, int], tuple[Mapping[str, Any], str]]  # sections and their JSON, by their key and id()

_written = json.JSONEncoder(sort_keys=True).encode


def run_id(labels: Mapping[str, Any], config: Mapping[str, Any], texts: Texts | None = None) -> str:
    """Name of a run: its labels and 8 hex digits of the hash of the configuration that matters.

    `texts` keeps the JSON of each section. The cells of a grid share most of theirs, so each is written once.
    """
    names = [re.sub(r"[^A-Za-z0-9_.+]", "_", str(labels[key])) for key in ("dataset", "model", "base", "optimizer")]
    texts = {} if texts is None else texts
    written = {str(key): _text(str(key), value, texts) for key, value in config.items() if _matters(str(key), value)}
    whole = ", ".join(f"{_written(key)}: {written[key]}" for key in sorted(written))  # as json.dumps writes a dict
    digest = hashlib.sha256(f"{{{whole}}}".encode()).hexdigest()
    return "-".join([*names, f"seed{labels['seed']}", digest[:8]])


def spelled(value: Any) -> str:
    """A plain value as it is typed: true, false and null as in a YAML."""
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def important(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that determines the result, in plain values; 1.0 and 1 are the same value."""
    return {str(key): _important_in(str(key), value) for key, value in config.items() if _matters(str(key), value)}


def _text(key: str, value: Any, texts: Texts) -> str:
    """The JSON of what matters of one value or section."""
    if not isinstance(value, Mapping):
        return _written(_important_in(key, value))
    if (key, id(value)) not in texts:
        # The section is held, so that no other gets its id.
        texts[key, id(value)] = value, _written(_important_in(key, value))
    return texts[key, id(value)][1]


def _matters(key: str, value: Any) -> bool:
    return key not in WHERE and key not in WATCHED and not _is_later(key, value)


def _important_in(key: str, value: Any) -> Any:
    return _plain(_without_later(value, f"{key}."), UNIMPORTANT_WITHIN.get(key))


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

"""Find and read the YAML files. All code looks them up here, so there is one search order.

The user's own folders come first, in the order of SAM_BENCH_CONFIGS, then the built-in files. A name stands for one
file: it is an error if a user's YAML has the name of a built-in one of the same group.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sam_bench.errors import UsageError, did_you_mean


def config_dir() -> Path:
    """Folder of the built-in YAML files: inside an installed package, beside it in a source tree."""
    package = Path(__file__).parent.parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def user_dirs() -> list[Path]:
    """Folders with the user's own YAML files: $SAM_BENCH_CONFIGS, separated as PATH is.

    Raises UsageError for a missing folder, and for a YAML with the name of a built-in one of the same group.
    """
    named = os.environ.get("SAM_BENCH_CONFIGS", "")
    folders = [Path(folder).expanduser().absolute() for folder in named.split(os.pathsep) if folder]
    built_in = config_dir()
    groups = [group for group in built_in.iterdir() if group.is_dir()] if folders else []
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"SAM_BENCH_CONFIGS names {folder}, but there is no such folder. Correct or unset it.")
        for group in groups:
            for path in sorted((folder / group.name).glob("*.yaml")):
                other = group / path.name
                if other.is_file() and not other.samefile(path):
                    raise UsageError(_clash(path, other))
    return folders


def _clash(path: Path, built_in: Path) -> str:
    group, name = path.parent.name, path.stem
    theirs = _read(built_in)
    changed = [(k, v) for k, v in _read(path).items() if theirs.get(k) != v and isinstance(v, str | int | float)]
    prefix = "" if group == "experiment" else f"{group}."
    words = [f"{prefix}{k}={v}" for k, v in changed if not k.startswith("_")][:3] or [f"{prefix}KEY=VALUE"]
    return (
        f"{path} has the name of a built-in YAML, so {group}={name} could mean either. Rename yours, for instance to "
        f"my_{name}.yaml, or delete it and override the built-in's keys: {group}={name} {' '.join(words)}"
    )


def yaml_files(group: str) -> dict[str, Path]:
    """The YAML files of a group by name, sorted; raises UsageError as `user_dirs` does."""
    found: dict[str, Path] = {}
    for folder in (*user_dirs(), config_dir()):
        for path in (folder / group).glob("*.yaml"):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def read_component(group: str, name: str, also: Iterable[str] = ()) -> dict[str, Any]:
    """What the YAML `name` of a group says, without Hydra: `defaults` of the same group are followed.

    Raises UsageError for an unknown name and for a file that cannot be read. `also` lists further names that the user
    may have meant.
    """
    known = yaml_files(group)
    if name not in known:
        raise UsageError(f"There is no {group} {name!r}. {did_you_mean(name, [*known, *also])}")
    return _with_defaults(known, name)


def read_group(group: str, names: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    """The named components of a group, or all, by name; raises UsageError as `read_component` does."""
    return {name: read_component(group, name) for name in sorted(set(names) or yaml_files(group))}


def that_says(group: str, name: str, keys: Sequence[str]) -> Path | None:
    """The YAML that sets these nested keys: the named one, or one of its `defaults`."""
    known = yaml_files(group)
    content = _read(known[name])
    node: Any = content
    for key in keys:
        node = node.get(key) if isinstance(node, Mapping) else None
    if node is not None:
        return known[name]
    parents = [parent for parent in content.get("defaults") or [] if isinstance(parent, str) and parent in known]
    return next((path for parent in reversed(parents) if (path := that_says(group, parent, keys))), None)


def has_package_header(path: Path) -> bool:
    """Whether the first line of a YAML is the header of an experiment, which puts its keys at the top level.

    Hydra looks for it above everything else, comments included.
    """
    lines = filter(str.strip, path.read_text(encoding="utf-8", errors="replace").splitlines())
    return re.fullmatch(r"\s*#\s*@package\s+_global_\s*", next(lines, "")) is not None


def _with_defaults(known: Mapping[str, Path], name: str) -> dict[str, Any]:
    own = _read(known[name])
    merged: dict[str, Any] = {}
    for parent in own.pop("defaults", None) or []:
        if parent != "_self_":
            if parent not in known:
                raise UsageError(
                    f"{known[name]}: its defaults name {parent!r}. Only YAML files beside it may stand there."
                )
            merged = _merged(merged, _with_defaults(known, parent))
    return _merged(merged, own)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two YAML files as Hydra does: key by key, also in nested mappings."""
    both = {
        key: _merged(below[key], value) if _nested(below.get(key), value) else value for key, value in above.items()
    }
    return {**below, **both}


def _nested(below: Any, above: Any) -> bool:
    return isinstance(below, Mapping) and isinstance(above, Mapping)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{path} cannot be read as YAML: {error}") from None
    if not isinstance(content, dict | None):
        raise UsageError(f"{path} holds no keys: write `key: value` lines.")
    return content or {}

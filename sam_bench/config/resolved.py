"""A composed configuration that takes many different plain values, and is resolved for each."""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import getitem
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException


def without_hydra(config: Any) -> Any:
    return OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])


def resolve(config: Any) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True))


class Composed:
    """A configuration that is composed once and takes many plain values, because Hydra needs 0.1 s to compose one.

    OmegaConf needs milliseconds to resolve one, because it parses every `${...}` again. So it resolves one. In copies
    of that, plain values are replaced, and so is what refers to them, such as `split_seed: ${seed}`. 10,000 cells of
    `learning` took 2.4 s of processor time to plan, and 22.3 s where OmegaConf resolved each (medians, n = 3 in turn,
    ranges 2.3 to 2.5 s and 21.7 to 22.4 s; a Xeon under load, November 2026).
    """

    def __init__(self, config: Any, choices: Mapping[str, str]):
        self.config, self.choices = config, choices
        try:
            self._first: dict[str, Any] | None = resolve(config)
        except OmegaConfBaseException:  # a mandatory value is still missing; `resolved` will set it
            self._first = None
        raw = cast(dict[str, Any], OmegaConf.to_container(self.config, resolve=False))
        self.keys, self._references = set(keys_of(raw)), dict(_references(raw))
        self._followed: dict[tuple[str, ...], dict[str, str] | None] = {}

    def has(self, key: str) -> bool:
        """Whether the configuration has this key; for an item of a list, `targets[0]`, whether it has the list."""
        return key in self.keys or re.sub(r"(\[\d+\]|\.\d+)$", "", key) in self.keys

    def resolved(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration with these values."""
        keys = tuple(values)
        if keys not in self._followed:
            self._followed[keys] = _followers(self._references, keys)
        followers = self._followed[keys]
        involved = any(isinstance(v, dict | list) or "${" in str(v) for v in values.values())
        if self._first is None or followers is None or involved:
            config = copy.deepcopy(self.config)
            for key, value in values.items():
                OmegaConf.update(config, key, value)
            return resolve(config)
        found = self._first
        for key, value in values.items():
            found = _replaced(found, key, value)
        for key, source in followers.items():
            found = _replaced(found, key, reduce(getitem, source.split("."), found))
        return found


def keys_of(node: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    """All keys of a configuration, `train` and `train.epochs`."""
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from keys_of(value, f"{prefix}{key}.")


def _references(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The keys whose values refer to other keys, with these values: `split_seed`, `${seed}`."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _references(value, f"{prefix}{key}.")
        elif "${" in str(value):
            yield f"{prefix}{key}", str(value)


def _followers(references: Mapping[str, str], keys: Sequence[str]) -> dict[str, str] | None:
    """The keys that copy one of `keys`, and which; None if only OmegaConf can tell what changes."""
    found: dict[str, str] = {}
    changed = list(keys)
    for of in changed:  # the list grows: a key that copies a follower follows too
        if "[" in of:
            return None
        name = re.compile(rf"\b{re.escape(of.rpartition('.')[2])}\b")
        for key, text in references.items():
            plain = re.fullmatch(r"\$\{([A-Za-z_]\w*(?:\.\w+)*)\}", text)
            if (plain is None and name.search(text)) or (plain and of.startswith(f"{plain[1]}.")):
                return None
            if plain and plain[1] == of and key not in changed:
                found[key] = of
                changed.append(key)
    return found


def _replaced(config: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """The configuration with another value; unchanged sections are shared."""
    first, _, rest = key.partition(".")
    return {**config, first: _replaced(config[first], rest, value) if rest else value}

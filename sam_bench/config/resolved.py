"""A composed configuration in which plain values are set again and again, resolved each time."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any, cast

from omegaconf import OmegaConf


def without_hydra(config: Any) -> Any:
    return OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])


def resolve(config: Any) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True))


class Composed:
    """A configuration in which plain values are set again and again; Hydra takes a tenth of a second to compose one.

    Resolving costs milliseconds too, so what is set and what refers to it are replaced in the first resolved one.
    """

    def __init__(self, whole: Any):
        self.config, self.choices = without_hydra(whole), dict(whole.hydra.runtime.choices)
        unresolved = cast(dict[str, Any], OmegaConf.to_container(self.config, resolve=False))
        self._referring = list(_references(unresolved))
        self._first: dict[str, Any] | None = None

    def resolved(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration with these values, always of the same keys."""
        nested = (isinstance(value, dict | list) or "${" in str(value) for value in values.values())
        simple = not any(nested) and not any("[" in key for key in values)
        config = self.config if simple else copy.deepcopy(self.config)
        for key, value in values.items():
            OmegaConf.update(config, key, value)
        if not simple:
            return resolve(config)
        if self._first is None:
            self._first = resolve(config)
        found = self._first
        for key, value in values.items():
            found = _replaced(found, key, value)
        for key in self._referring:
            value = OmegaConf.select(config, key)
            found = _replaced(found, key, resolve(value) if OmegaConf.is_config(value) else value)
        return found


def _references(node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The keys whose values refer to others, `split_seed: ${seed}`."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _references(value, f"{prefix}{key}.")
        elif "${" in str(value):
            yield f"{prefix}{key}"


def _replaced(config: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """The same configuration with another value; what does not change is shared."""
    first, _, rest = key.partition(".")
    return {**config, first: _replaced(config[first], rest, value) if rest else value}

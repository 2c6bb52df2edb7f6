"""Hydra's compositions, each made once for many cells, and the keys that only some cells have."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import OmegaConf

from sam_bench.config.composer import Compose, Unknown, line
from sam_bench.config.resolved import Composed, without_hydra
from sam_bench.options.component import Checked
from sam_bench.store.identity import Texts

Raw = tuple[dict[str, Any], dict[str, str]]  # a configuration that is not resolved, and the YAML stems in it


class Compositions:
    """Composes each choice of YAML files at most once. Groups that do not affect each other are composed separately.

    Hydra takes a tenth of a second for one choice. If another data set changes the section `dataset` alone, and
    another optimizer `optimizer` alone, then both together are the first choice with two sections replaced: ten data
    sets and ten optimizers are 19 compositions, not 100.
    """

    def __init__(self) -> None:
        self.checked: Checked = {}  # the sections of the cells made from these compositions,
        self.texts: Texts = {}  # and their JSON
        self._composed: dict[tuple[str, ...], Composed] = {}
        self._raw: dict[tuple[str, ...], Raw] = {}
        self._first: dict[tuple[str, ...], tuple[str, ...]] = {}  # the first choice for each list of groups

    def of(self, compose: Compose, fixed: Sequence[str], files: Sequence[Override]) -> Composed:
        """The composition of `fixed` and these overrides, which choose YAML files, or add or delete keys."""
        words = tuple(line(override) for override in files)
        key = (*fixed, *words)
        if key not in self._composed:
            simple = all(o.type is OverrideType.CHANGE and isinstance(o.value(), str) for o in files)
            groups = tuple(o.key_or_group for o in files)
            config, choices = self._put_together(compose, fixed, groups, words) if simple else (None, {})
            if not config:
                config, choices = self._with_sections(compose, fixed, files) or _parts(compose(key))
            self._composed[key] = Composed(config, choices)
        return self._composed[key]

    def _with_sections(
        self, compose: Compose, fixed: Sequence[str], files: Sequence[Override]
    ) -> tuple[Any, Mapping[str, str]] | None:
        """Another composition with new sections, as in `+tuned={study: ...}`; None if nothing else is added."""
        new = {o.key_or_group: o.value() for o in files if o.type is OverrideType.ADD and isinstance(o.value(), dict)}
        others = [o for o in files if o.key_or_group not in new]
        if not new or any("." in key for key in new) or any(o.type is not OverrideType.CHANGE for o in others):
            return None
        known = self.of(compose, fixed, others)
        if known.keys & new.keys():
            return None
        sections = cast(dict[str, Any], OmegaConf.to_container(known.config, resolve=False))
        return OmegaConf.create({**sections, **new}), known.choices

    def _put_together(
        self, compose: Compose, fixed: Sequence[str], groups: tuple[str, ...], words: tuple[str, ...]
    ) -> tuple[Any, Mapping[str, str]]:
        """This choice put together from sections of other compositions; None if a file changes other sections too."""
        first = self._first.setdefault((*fixed, "", *groups), words)
        config, choices = self._raw_of(compose, fixed, first)
        sections, names = dict(config), dict(choices)
        for place, group in enumerate(groups):
            if words[place] == first[place]:
                continue
            other, others = self._raw_of(compose, fixed, (*first[:place], words[place], *first[place + 1 :]))
            if _differing(config, other) - {group} or _differing(choices, others) - {group}:
                return None, {}
            sections[group], names[group] = other[group], others[group]
        return OmegaConf.create(sections), names

    def _raw_of(self, compose: Compose, fixed: Sequence[str], words: tuple[str, ...]) -> Raw:
        key = (*fixed, *words)
        if key not in self._raw:
            config, choices = _parts(compose(key))
            self._raw[key] = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False)), choices
        return self._raw[key]


def _parts(whole: Any) -> tuple[Any, dict[str, str]]:
    return without_hydra(whole), dict(whole.hydra.runtime.choices)


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    missing = object()
    return {key for key in one.keys() | other.keys() if one.get(key, missing) != other.get(key, missing)}


class Partial:
    """Which cells have the given keys, and which do not."""

    def __init__(self) -> None:
        self._has: dict[str, dict[str, None]] = {}  # dicts keep the order of the names
        self._lacks: dict[str, dict[str, None]] = {}
        self._known: set[str] = set()

    def note(self, keys: Iterable[str], found: Composed) -> None:
        """Remember which of these keys the cells of this composition have."""
        self._known |= found.keys
        for key in keys:
            name = found.choices.get(key.partition(".")[0], "other cells")
            (self._has if found.has(key) else self._lacks).setdefault(key, {})[name] = None

    def check(self, say: Callable[[str], None]) -> None:
        """Say which keys only some cells have; raises Unknown for a key that no cell has."""
        for key, names in self._lacks.items():
            if key not in self._has:
                raise Unknown(key, "key", key, sorted(self._known))
            have, lack = ", ".join(self._has[key]), ", ".join(names)
            say(f"{key} is set for {have}; not for {lack}, which {'has' if len(names) == 1 else 'have'} no such key")

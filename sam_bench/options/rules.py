"""The allowed values of an option, from the type of its field: `Annotated[int, at_least(1), "what it means"]`.

Alternatives: Hydra's structured configs have no ranges, and pydantic's messages would all have to be rewritten.
"""

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, partial
from typing import Any, Literal

from sam_bench.errors import UsageError, did_you_mean

Holds = Callable[[Any], bool]


@dataclass(frozen=True)
class Range:
    """A restriction of a type. In messages `wanted` follows the name of the type, or replaces it if `whole`."""

    holds: Holds
    wanted: str
    whole: bool = False


def at_least(low: float) -> Range:
    """Values of at least `low`."""
    return Range(lambda v: v >= low, f">= {low:g}")


def above(low: float) -> Range:
    """Values above `low`."""
    return Range(lambda v: v > low, f"> {low:g}")


def between(low: float, high: float) -> Range:
    """Values from `low` to `high`, both included."""
    return Range(lambda v: low <= v <= high, f"in [{low:g}, {high:g}]")


def stated(wanted: str, holds: Holds) -> Range:
    """A rule with its own wording: the message says `it must be <wanted>`."""
    return Range(holds, wanted, whole=True)


@dataclass(frozen=True)
class Option:
    """One option as its field declares it.

    `words` are the allowed words, if only a few are allowed; `nested` is the class of the options inside it, if any.
    """

    name: str
    wanted: str
    meaning: str
    holds: Holds
    words: tuple[str, ...]
    nested: type | None


@cache
def options_of(declared: type) -> dict[str, Option]:
    """The options that a class declares, in their order."""
    hints = typing.get_type_hints(declared, include_extras=True)
    return {field.name: _option(field.name, hints[field.name]) for field in fields(declared)}


def check(declared: type, values: Mapping[str, Any], where: str, *, more: bool = False) -> None:
    """Raise UsageError for a value that `declared` forbids and, unless `more`, for an option that it lacks.

    `where` is the key of `values` in the configuration: `train`, `dataset.augment`, or empty at the top.
    """
    known, prefix = options_of(declared), f"{where}." if where else ""
    for name, value in values.items():
        if option := known.get(name):
            refuse(option, value, prefix)
        elif not more and not name.startswith("_"):
            raise UsageError(
                f"unknown key {prefix + name!r}. {did_you_mean(prefix + name, [prefix + k for k in known])}"
            )


def check_one(declared: type, name: str, value: Any, where: str) -> None:
    """Raise UsageError unless `value` is allowed for the option `name`."""
    refuse(options_of(declared)[name], value, f"{where}.")


def refuse(option: Option, value: Any, prefix: str) -> None:
    """Raise UsageError unless `value` is allowed."""
    if not option.holds(value):
        hint = did_you_mean(value, option.words) if isinstance(value, str) and option.words else ""
        meant = f" {hint}" if hint.startswith("Did") else ""
        raise UsageError(f"{prefix}{option.name}={value} is not usable: it must be {option.wanted}.{meant}")
    if option.nested is not None and isinstance(value, Mapping):
        check(option.nested, value, prefix + option.name)


def _option(name: str, hint: Any) -> Option:
    extras = hint.__metadata__ if hasattr(hint, "__metadata__") else ()
    meaning = next((extra for extra in extras if isinstance(extra, str)), "")
    holds, wanted, nested = _allowed(hint)
    return Option(name, wanted, meaning, holds, _words(hint), nested)


def _words(hint: Any) -> tuple[str, ...]:
    """The strings among the choices of a type."""
    if typing.get_origin(hint) is Literal:
        return tuple(word for word in typing.get_args(hint) if isinstance(word, str))
    if hasattr(hint, "__metadata__"):
        return _words(hint.__origin__)
    return tuple(word for part in typing.get_args(hint) for word in _words(part)) if _is_union(hint) else ()


def _allowed(hint: Any) -> tuple[Holds, str, type | None]:
    """The test for a type, its name in messages, and the class of nested options."""
    if hasattr(hint, "__metadata__"):
        return _restricted(hint)
    origin = typing.get_origin(hint)
    if _is_union(hint):
        return _either([_allowed(part) for part in typing.get_args(hint)])
    if origin is Literal:
        words = typing.get_args(hint)
        return lambda v: v in words, f"one of {', '.join(map(str, words))}", None
    if origin is list:
        of_one, wanted, _ = _allowed(typing.get_args(hint)[0])
        return lambda v: _is_list(v) and all(map(of_one, v)), f"a list, each {wanted}", None
    if isinstance(hint, type) and is_dataclass(hint):
        return lambda v: isinstance(v, Mapping), f"its options in braces, for instance {_example(hint)}", hint
    return _PLAIN[origin or hint]


def _restricted(hint: Any) -> tuple[Holds, str, type | None]:
    """The ranges restrict what is not None: `Annotated[int | None, at_least(1)]` is an integer >= 1, or null."""
    parts = typing.get_args(hint.__origin__) if _is_union(hint.__origin__) else (hint.__origin__,)
    of_type, wanted, nested = _either([_allowed(part) for part in parts if part is not types.NoneType])
    ranges = [extra for extra in hint.__metadata__ if isinstance(extra, Range)]
    for extra in ranges:
        wanted = extra.wanted if extra.whole else f"{wanted} {extra.wanted}"
    optional = types.NoneType in parts
    holds = partial(_holds, of_type, tuple(extra.holds for extra in ranges), optional)
    return holds, wanted + (", or null" if optional else ""), nested


def _holds(of_type: Holds, ranges: tuple[Holds, ...], optional: bool, v: Any) -> bool:
    return (v is None and optional) or (of_type(v) and all(holds(v) for holds in ranges))


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _either(parts: list[tuple[Holds, str, type | None]]) -> tuple[Holds, str, type | None]:
    joined = ", or ".join(wanted for _, wanted, _ in parts)
    nested = next((inside for _, _, inside in parts if inside is not None), None)
    return lambda v: any(holds(v) for holds, _, _ in parts), joined, nested


def _example(declared: Any) -> str:
    """The defaults of a class as one writes them in an override: {operations:2,magnitude:9}."""
    return "{" + ",".join(f"{f.name}:{f.default:g}" for f in fields(declared) if _is_number(f.default)) + "}"


def _is_list(v: Any) -> bool:
    return isinstance(v, Sequence) and not isinstance(v, str)


def _is_number(v: Any) -> bool:
    return isinstance(v, int | float) and not isinstance(v, bool)


_PLAIN: dict[Any, tuple[Holds, str, type | None]] = {
    int: (lambda v: isinstance(v, int) and not isinstance(v, bool), "an integer", None),
    float: (_is_number, "a number", None),
    bool: (lambda v: isinstance(v, bool), "one of True, False", None),
    str: (lambda v: isinstance(v, str), "a word", None),
    types.NoneType: (lambda v: v is None, "null", None),
    dict: (lambda v: isinstance(v, Mapping), "keys in braces, {} for none", None),
}

"""Check values from JSON against the types of `sam_bench.api`, and describe these types for a page.

`pydantic` could check them too. But importing it takes longer than reading a thousand records, and it does not know the
standard library's TypedDict on Python 3.11.
"""

import functools
import re
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, NotRequired, Required, Union

from sam_bench.api import Key

Check = Callable[[Any, str], None]
_WORDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number", dict: "an object",
          list: "a list", type(None): "null"}  # fmt: skip


class Malformed(ValueError):
    """A value that is not of its type; the message names the key."""


def check(value: Any, kind: Any) -> None:
    """Raise Malformed unless `value` is of this type; it names the path of the first wrong key and what it must be."""
    _check_of(kind)(value, "")


def described(kind: Any) -> str:
    """A type in words."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return described(inner[0])
    if origin in (Union, types.UnionType):
        return " or ".join(described(part) for part in inner)
    if origin is Literal:
        return " or ".join(repr(value) for value in inner)
    if origin is list:
        return f"a list of {described(inner[0])}"
    if origin is dict:
        return "an object" if inner[1] is Any else f"an object of {described(inner[1])}"
    return _WORDS.get(kind) or "an object"


@functools.cache
def keys(kind: Any) -> dict[str, tuple[Any, bool]]:
    """The keys of a TypedDict: their types, and whether a record must have them."""
    found = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        wrapped = typing.get_origin(hint) in (NotRequired, Required)
        found[name] = typing.get_args(hint)[0] if wrapped else hint, name in kind.__required_keys__
    return found


@functools.cache
def _check_of(kind: Any, key: Key | None = None) -> Check:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _check_of(inner[0], inner[1])
    if kind is Any:
        return lambda value, path: None
    if typing.is_typeddict(kind):
        return _object(kind)
    if origin is dict:
        return _mapping(_check_of(inner[1], key))
    if origin is list:
        return _list(_check_of(inner[0], key))
    if origin in (Union, types.UnionType):
        return _nullable(_check_of(next(part for part in inner if part is not type(None)), key))
    return _plain(kind, key)


def _object(kind: Any) -> Check:
    checks = {name: (_check_of(hint), needed) for name, (hint, needed) in keys(kind).items()}

    def check_object(value: Any, path: str) -> None:
        _need(value, dict, path)
        for name, (inner, needed) in checks.items():
            if name in value:
                inner(value[name], f"{path}.{name}" if path else name)
            elif needed:
                raise Malformed(f"{path + ': ' if path else ''}the key {name} is missing")

    return check_object


def _mapping(inner: Check) -> Check:
    def check_mapping(value: Any, path: str) -> None:
        _need(value, dict, path)
        for name, item in value.items():
            if not name.isprintable():
                raise Malformed(f"{path}: {name[:60]!a} is no name")
            inner(item, f"{path}.{name[:60]}")

    return check_mapping


def _list(inner: Check) -> Check:
    def check_list(value: Any, path: str) -> None:
        _need(value, list, path)
        for place, item in enumerate(value):
            inner(item, f"{path}[{place}]")

    return check_list


def _nullable(inner: Check) -> Check:
    def check_nullable(value: Any, path: str) -> None:
        if value is not None:
            inner(value, path)

    return check_nullable


def _plain(kind: Any, key: Key | None) -> Check:
    """A text, a number, a truth value or one of a few words."""
    values = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
    pattern = re.compile(key.pattern) if key and key.pattern else None
    least = key.least if key and key.least is not None else None
    most = key.most if key and key.most is not None else None

    def check_plain(value: Any, path: str) -> None:
        if values:
            if value not in values:
                raise Malformed(f"{path} is {_shown(value)}, not {described(kind)}")
            return
        _need(value, kind, path)
        if pattern and not pattern.fullmatch(value):
            raise Malformed(f"{path} is {_shown(value)}, which does not match {pattern.pattern}")
        if least is not None and value < least:
            raise Malformed(f"{path} is {_shown(value)}, less than {least:g}")
        if most is not None and abs(value) > most:
            raise Malformed(f"{path} is {_shown(value)}, beyond {most:g}")

    return check_plain


def _need(value: Any, kind: type, path: str) -> None:
    """Check a number: JSON has one kind, so an int is also a float; but a bool is not a number, unlike in Python."""
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise Malformed(f"{path or 'it'} is {_shown(value)}, not {_WORDS[kind]}")


def _shown(value: Any) -> str:
    text = ascii(value) if isinstance(value, str | int | float | bool | None) else _WORDS[type(value)]
    return text if len(text) <= 60 else f"{text[:57]}..."

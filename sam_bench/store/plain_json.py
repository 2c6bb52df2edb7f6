"""The JSON of records: written without NaN and with a checksum of its content, and read strictly."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

DEPTH = 40  # nested lists and objects
DIGITS = 18  # of a whole number


def as_json(record: Mapping[str, Any]) -> bytes:
    """A record as stored text; values that are not finite become null."""
    return (json.dumps(_finite(record), indent=1, allow_nan=False, default=str) + "\n").encode()


def as_json_with_checksum(record: Mapping[str, Any]) -> bytes:
    """The same with one more key at the end, `sha256`, the checksum of the rest."""
    stored = json.loads(as_json({key: value for key, value in record.items() if key != "sha256"}))
    return as_json({**stored, "sha256": content_sha256(stored)})


def content_sha256(record: Mapping[str, Any]) -> str:
    """SHA-256 of a record without its key `sha256`: of its JSON in ASCII, with sorted keys and without blanks."""
    content = {key: value for key, value in record.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def decode(raw: bytes) -> Any:
    """The value of a JSON text. Raises ValueError, in one line, for broken or ambiguous JSON.

    It also refuses a key that comes twice, NaN and infinity, numbers that other programs read differently, text that is
    not UTF-8, and lists and objects nested deeper than in any record.
    """
    try:
        found = json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_float,
                           parse_int=_int)  # fmt: skip
    except RecursionError:
        raise ValueError(f"more than {DEPTH} lists and objects within each other") from None
    _bounded(found, DEPTH)
    if b"\\ud" in raw.lower():  # an escaped lone surrogate: such a text cannot be printed or stored
        json.dumps(found, ensure_ascii=False).encode()
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for key in names if names.count(key) > 1)
        raise ValueError(f"the key {twice[:60]!a} comes twice")
    return found


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _float(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def _int(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"{text[:20]}... is too large a number")
    return int(text)


def _bounded(value: Any, depth: int) -> None:
    if not depth:
        raise ValueError(f"more than {DEPTH} lists and objects within each other")
    for item in value.values() if type(value) is dict else value if type(value) is list else ():
        if type(item) is dict or type(item) is list:
            _bounded(item, depth - 1)


def _finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not have, by null, and write lone surrogates as escapes."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, str) and not value.isascii():
        return value.encode(errors="backslashreplace").decode()
    return None if isinstance(value, float) and not math.isfinite(value) else value

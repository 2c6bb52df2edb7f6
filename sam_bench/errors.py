"""The one exception that a user sees as a plain message."""

import difflib
import unicodedata
from collections.abc import Iterable


class UsageError(Exception):
    """Something the user can mend: the command line prints the message alone and exits with 2."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest known words, or all of them when none is near."""
    known = sorted(known)
    folded = {name.lower(): name for name in known}
    near = [folded[name] for name in difflib.get_close_matches(word.lower(), folded, n=3)]
    if near:
        return f"Did you mean {' or '.join(repr(n) for n in near)}?"
    return f"Known: {', '.join(map(printable, known))}."


def printable(text: str) -> str:
    """Text in one line, without what moves a terminal's cursor or turns the direction of writing: ? stands for it."""
    line = " ".join(text.splitlines())
    return "".join("?" if unicodedata.category(char) in ("Cc", "Cf", "Cs") else char for char in line)

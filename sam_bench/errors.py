"""The one exception that a user sees as a plain message."""

import difflib
import unicodedata
from collections.abc import Iterable


class UsageError(Exception):
    """A mistake that the user can fix: the command line prints only the message and exits with 2."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest known words, or all of them if none is near."""
    known = sorted(known)
    folded = {name.lower(): name for name in known}
    near = [folded[name] for name in difflib.get_close_matches(word.lower(), folded, n=3)]
    if near:
        return f"Did you mean {' or '.join(repr(n) for n in near)}?"
    return f"Known: {', '.join(map(printable, known))}."


def printable(text: str) -> str:
    """The text in one line; characters that move a terminal's cursor or change the writing direction become ?."""
    line = " ".join(text.splitlines())
    return "".join("?" if unicodedata.category(char) in ("Cc", "Cf", "Cs") else char for char in line)

"""What a failed record says about an error: enough to fix it, and nothing about the machine or its user.

Records and pages are published. So paths are shortened to the part that is the same everywhere: `site-packages/...`,
`sam_bench/...`, else the name of the file. The worker's log keeps the whole traceback.
"""

import contextlib
import getpass
import os
import re
import socket
import sysconfig
import traceback
from pathlib import Path

PACKAGE = str(Path(__file__).parents[1])
QUOTED = re.compile(r"""(["'])(/[^"'\n]+)\1""")
BARE = re.compile(r"""(?<![\w.:/~-])/[^\s"'<>|:,;()\[\]{}]+""")


def described(error: BaseException, step: int) -> dict[str, str | int]:
    """Type, message, traceback and step of an error, for a record."""
    return {
        "type": type(error).__name__,
        "message": without_names(str(error)),
        "traceback": without_names("".join(traceback.format_exception(error))),
        "step": step,
    }


def without_names(text: str) -> str:
    """The text without folders, the host's name and (except in lines of code) the user's name."""
    text = QUOTED.sub(lambda found: f"{found[1]}{_short(found[2])}{found[1]}", text)
    for folder in sorted({str(Path.home()), os.getcwd()}, key=len, reverse=True):
        if len(folder) > 1:
            text = re.sub(rf"{re.escape(folder)}(?=/|\b)/?", "", text)
    text = BARE.sub(lambda found: _short(found[0]), text)
    host = socket.gethostname()
    for name in (host, host.partition(".")[0]):
        text = _replaced(text, name, "HOST") if name not in ("", "localhost") else text
    return "\n".join(line if line.startswith("    ") else _without_user(line) for line in text.split("\n"))


def _short(path: str) -> str:
    """`torch/nn/modules/module.py` of site-packages, `sam_bench/...`, `python3.11/...`, or the last part of a path."""
    standard = sysconfig.get_path("stdlib")
    for marker in ("/site-packages/", "/dist-packages/"):
        if marker in path:
            return f"site-packages/{path.rpartition(marker)[2]}"
    if path.startswith(f"{PACKAGE}/"):
        return f"sam_bench/{path.removeprefix(PACKAGE + '/')}"
    if path.startswith(f"{standard}/"):
        return f"{Path(standard).name}/{path.removeprefix(standard + '/')}"
    return path.rstrip("/").rpartition("/")[2]


def _without_user(line: str) -> str:
    with contextlib.suppress(OSError, KeyError):  # a container's user may have no name
        user = getpass.getuser()
        return line if user == "root" else _replaced(line, user, "USER")
    return line


def _replaced(text: str, word: str, by: str) -> str:
    return re.sub(rf"(?<![\w-]){re.escape(word)}(?![\w-])", by, text)

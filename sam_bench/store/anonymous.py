"""Remove folders from what a record says about the user's own file: its name and checksum stay, its folder goes."""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

_OWN_FILE = re.compile(r"(?P<key>\+{0,2}dataset\.path=)(?P<quote>['\"]?)(?P<path>.*)(?P=quote)", re.DOTALL)


def config_without_folders(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with the base name of dataset.path; dataset.file_sha256 says which file it was."""
    dataset = config["dataset"]
    if dataset.get("path") is None:
        return dict(config)
    return {**config, "dataset": {**dataset, "path": PurePath(str(dataset["path"])).name}}


def overrides_without_folders(overrides: Sequence[str]) -> list[str]:
    """The overrides of a command line with the base name of dataset.path."""
    return [_short(word) for word in overrides]


def _short(word: str) -> str:
    if not (found := _OWN_FILE.fullmatch(word)):
        return word
    return f"{found['key']}{found['quote']}{PurePath(found['path']).name}{found['quote']}"

"""The code blocks of a Markdown page, and the files that they name."""

import re
from pathlib import Path

FENCE = re.compile(r"^```(\w+)\n(.*?)^```", flags=re.M | re.S)


def fenced(text: str) -> list[tuple[str, str]]:
    """(language, content) of every code block, in order."""
    return FENCE.findall(text)


def blocks(language: str, text: str) -> list[str]:
    """The blocks of one language."""
    return [content for name, content in fenced(text) if name == language]


def write_files(text: str, folder: Path) -> None:
    """Write each block of Python or YAML into the file that its first line names, or the text before an experiment.

    The first line of an experiment must be `# @package _global_`, so that it can be copied as it stands.
    """
    for found in FENCE.finditer(text):
        if found[1] not in ("python", "yaml"):
            continue
        name, _, content = found[2].partition("\n")
        if name == "# @package _global_":
            name, content = re.findall(r"`([\w/]+\.yaml)`", text[: found.start()])[-1], found[2]
        path = folder / name.removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

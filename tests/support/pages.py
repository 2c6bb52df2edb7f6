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
    """Write each block of Python or YAML into the file that its first line names."""
    for block in (*blocks("python", text), *blocks("yaml", text)):
        name, _, content = block.partition("\n")
        path = folder / name.removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

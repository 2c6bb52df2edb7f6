"""What mkdocs does for this project besides rendering docs/: see `hooks` in mkdocs.yml.

Pages link files outside docs/ (CONTRIBUTING.md, examples, classes); each such file becomes a page of the site. The
published results are made from the committed records while the site is built, so no number on them is typed by hand.
"""

import os
import posixpath
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = ROOT / "results" / "published"
MARKER = "<!-- the tables and reports of the committed records: scripts/site_hooks.py -->"
LINK = re.compile(r"(\]\()(?![a-z]+:|#|/)([^)\s#]+)((?:#[^)\s]*)?\))")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".sh": "bash", ".cff": "yaml", ".toml": "toml"}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page for each file outside docs/ that a page links, and the report of each published experiment."""
    waiting = [(f"docs/{file.src_uri}", file.content_string) for file in files.documentation_pages()]
    done: set[str] = set()
    while waiting:
        path, text = waiting.pop()
        for target in set(outside(path, text)) - done:
            done.add(target)
            content = shown(target)
            files.append(generated(config, page_of(target), content))
            if target.endswith(".md"):
                waiting.append((target, content))
    for words in published():
        files.append(generated(config, report_of(words), report(words)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to files of the repository to their pages; put the tables of the committed records in their place."""
    here = page.file.src_uri
    path = next((target for target, uri in linked.items() if uri == here), f"docs/{here}")
    if here == "published.md":
        assert MARKER in markdown, f"docs/published.md has lost its line {MARKER}"
        markdown = markdown.replace(MARKER, "\n".join(map(section, published())))

    def renamed(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), match[2]))
        uri = linked.get(target, target.removeprefix("docs/"))
        return match[1] + posixpath.relpath(uri, posixpath.dirname(here) or ".") + match[3]

    return LINK.sub(renamed, markdown)


# -- files outside docs/ ---------------------------------------------------------------------------------------------

linked: dict[str, str] = {}  # path in the repository -> page of the site


def outside(path: str, text: str) -> Iterator[str]:
    """The existing files outside docs/ that the page at `path` in the repository links."""
    for match in LINK.finditer(text):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), match[2]))
        if not target.startswith(("docs/", "..")) and (ROOT / target).exists():
            yield target


def page_of(target: str) -> str:
    """The place of a file of the repository in the site."""
    linked[target] = f"files/{target}" if target.endswith(".md") else f"files/{target}.md"
    return linked[target]


def shown(target: str) -> str:
    """A page as it is; another file as a block of code, a folder as a list."""
    path = ROOT / target
    if target.endswith(".md"):
        return path.read_text()
    if path.is_dir():
        names = sorted(item.name for item in path.iterdir() if not item.name.startswith(("__", ".")))
        return f"# {target}\n\n" + "\n".join(f"- `{name}`" for name in names) + "\n"
    return f"# {target}\n\n```{LANGUAGES.get(path.suffix, 'text')}\n{path.read_text().rstrip()}\n```\n"


def generated(config: MkDocsConfig, uri: str, content: str) -> File:
    """A file of the site that is not in docs/."""
    return File.generated(config, uri, content=content, inclusion=InclusionLevel.NOT_IN_NAV)


# -- published results -----------------------------------------------------------------------------------------------


@cache
def published() -> dict[tuple[str, ...], dict[str, Any]]:
    """The words that name each published experiment, with its text (`about`) and more tables (`also`)."""
    entries = yaml.safe_load((PUBLISHED / "experiments.yaml").read_text())
    return {tuple(entry["words"].split()): entry for entry in entries}


def section(words: tuple[str, ...]) -> str:
    """The heading, text, tables and report of one set of committed records."""
    entry, where = published()[words], report_of(words)
    tables = "\n".join(map(table, [" ".join(words), *entry.get("also", ())]))
    return (
        f"## {' '.join(words)}\n\n{entry['about']}\n{tables}\n"
        f"The report page ([open it alone]({where})):\n\n"
        f'<iframe src="{where}" title="Report of {" ".join(words)}" loading="lazy" class="report"></iframe>\n'
    )


def table(words: str) -> str:
    """What the words of a table print, with the command."""
    text = printed("table", *words.split(), "--format", "markdown")
    text = text.replace("\n### ", "\n#### ").replace("\n## ", "\n### ")
    return f"`SAM_BENCH_RESULTS=results/published sam-bench table {words}`\n\n{text}\n"


def report_of(words: tuple[str, ...]) -> str:
    """The file of a report in the site."""
    return f"published/{'-'.join(words).replace('=', '-')}.html"


def report(words: tuple[str, ...]) -> str:
    """The report page of one set of committed records."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        printed("report", *words, "--out", str(path))
        return path.read_text()


def printed(*words: str) -> str:
    """What a sam-bench command prints about the committed records."""
    environment = os.environ | {"SAM_BENCH_RESULTS": str(PUBLISHED), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "sam_bench", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout

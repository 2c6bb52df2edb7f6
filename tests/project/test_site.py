"""The documentation site: its pages, links and generated parts are those of the project, and it builds strictly."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support import ROOT
from support.pages import blocks

import sam_bench.contract
import sam_bench.optim

DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "CONTRIBUTING.md"])
LINK = re.compile(r"\]\((?![a-z]+:)([^)\s]+)\)")


class Lenient(yaml.SafeLoader):
    """Reads mkdocs.yml without mkdocs: what a tag of Python would make does not matter here."""


Lenient.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)
SITE = yaml.load((ROOT / "mkdocs.yml").read_text(), Lenient)


def nav_pages(entries: list) -> list[str]:
    """The pages of the navigation, in order."""
    found: list[str] = []
    for value in (value for entry in entries for value in entry.values()):
        found += nav_pages(value) if isinstance(value, list) else [value]
    return found


def anchors(page: Path) -> set[str]:
    """What a link may name after #: the headings, as GitHub and the site spell them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_stands_once_in_the_navigation():
    listed = nav_pages(SITE["nav"])
    assert sorted(listed) == sorted([*(str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md")), "files/CONTRIBUTING.md"])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in LINK.findall(re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


def test_the_page_of_commands_is_that_of_the_parsers():
    page = runpy.run_path(str(ROOT / "scripts" / "cli_page.py"))["text"]()
    assert (DOCS / "cli.md").read_text() == page, "write it again: python scripts/cli_page.py"


def test_the_page_of_the_api_names_all_that_is_public():
    page = (DOCS / "api.md").read_text()
    for module in (sam_bench.optim, sam_bench.contract):
        named = set(re.findall(rf"^::: {module.__name__}\.(\w+)$", page, flags=re.M))
        assert named == set(module.__all__) - {"VERSION"}
    for snippet in blocks("python", page):
        exec(compile(snippet, "api.md", "exec"), {})


def test_the_page_on_citing_says_what_the_citation_file_says():
    citation, page = yaml.safe_load((ROOT / "CITATION.cff").read_text()), (DOCS / "cite.md").read_text()
    assert f"{{{citation['title']}}}" in page
    assert f"{{{{{' and '.join(author['name'] for author in citation['authors'])}}}}}" in page
    assert f"{{{citation['license']}}}" in page


def test_the_workflow_calls_targets_that_exist():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    targets = {command.split()[1] for command in commands if command.startswith("make ")}
    assert targets == {"lint", "test", "docs"} <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_site_builds_strictly_and_shows_the_committed_records(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr[-3000:]
    published = (tmp_path / "published.html").read_text()
    assert "nothing is decided yet" in published  # what a reader must know of a table stands above it
    assert published.count("sam-bench table grover_init") == 5  # its table, and the four of its primary test
    for name in ("quickstart", "cifar100_cpu"):
        assert f'id="{name}"' in published
        assert f'src="published/{name}.html"' in published
        assert "<html" in (tmp_path / "published" / f"{name}.html").read_text()
    assert 'id="sam_bench.optim.SharpnessAware.step"' in (tmp_path / "api.html").read_text()
    loads = re.compile(r'<(?:script|img|iframe)[^>]* src="https?:|<link[^>]* href="https?:')
    assert [page for page in tmp_path.rglob("*.html") if loads.search(page.read_text())] == [], "loads from elsewhere"

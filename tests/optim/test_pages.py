"""docs/optimizers says what the code does: options, defaults, cost, tests, recorded runs, links, snippets."""

import ast
import inspect
import math
import re
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from support import ROOT, golden
from torch import nn

import sam_bench.optim
from sam_bench.optim import SharpnessAware, create_optimizer

DOCS = ROOT / "docs" / "optimizers"
GENERAL = ("README", "contract", "golden", "cost")
PAGES = sorted(path for path in DOCS.glob("*.md") if path.stem not in GENERAL)
YAMLS = sorted((ROOT / "configs" / "optimizer").glob("*.yaml"))
every_page = pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
every_text = pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda p: p.stem)


def section(text: str, title: str) -> str:
    return re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", text, flags=re.M | re.S)[1]


def rows(text: str) -> dict[str, list[str]]:
    """Of all tables: the first cell, which is `code`, and the cells after it."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("| `")]
    return {cells[0].strip().strip("`"): [cell.strip() for cell in cells[1:]] for cells in lines}


def named(text: str) -> list[str]:
    """The YAML files that the head of a page links."""
    return re.findall(r"configs/optimizer/(\w+)\.yaml\)", text)


def class_of(text: str) -> type[SharpnessAware]:
    return getattr(sam_bench.optim, re.search(r"^- Class: \[`(\w+)`\]", text, flags=re.M)[1])


def own_options(cls: type) -> dict:
    """The options in the constructor of `cls` itself, with their defaults."""
    if "__init__" not in vars(cls):
        return {}
    parameters = inspect.signature(cls.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def settings(name: str) -> dict:
    return yaml.safe_load((ROOT / "configs" / "optimizer" / f"{name}.yaml").read_text())


def value(shown: str):
    """The value that a cell shows."""
    shown = shown.strip("`")
    return math.exp(-10) if shown == "exp(-10)" else ast.literal_eval(shown)


@cache
def all_tests() -> set[str]:
    return {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_yaml_has_exactly_one_page():
    assert sorted(name for path in PAGES for name in named(path.read_text())) == [path.stem for path in YAMLS]


@every_page
def test_a_page_is_of_the_class_of_its_yaml_and_called_as_its_first(path):
    text = path.read_text()
    targets = {settings(name)["_target_"] for name in named(text)}
    assert targets == {f"sam_bench.optim.{class_of(text).__name__}"}
    assert named(text)[0] == path.stem
    assert Path(inspect.getfile(class_of(text))).name in text


@every_page
def test_the_defaults_are_those_of_the_constructor(path):
    text = path.read_text()
    options = own_options(class_of(text))
    if path.stem == "adasam":
        assert "[SAM](sam.md#options)" in text
        return
    table = {name: value(cells[0]) for name, cells in rows(section(text, "Options")).items() if name in options}
    assert table == options


@every_page
def test_the_yaml_differ_from_the_constructor_as_the_page_says(path):
    text = path.read_text()
    table = rows(section(text, "Options"))
    options = own_options(class_of(text))
    for name in named(text):
        differences = {k: v for k, v in settings(name).items() if k != "_target_" and options[k] != v}
        cell = table[name][0] if name in table else "-"
        said = {k: v for part in re.findall(r"`([^`]+)`", cell) for k, v in yaml.safe_load(part).items()}
        assert said == differences, name


def test_the_options_of_every_method():
    table = rows(section((DOCS / "README.md").read_text(), "Options of every method"))
    assert {name: value(cells[0]) for name, cells in table.items()} == own_options(SharpnessAware)


@every_page
def test_what_is_kept_between_steps(path):
    text = path.read_text()
    kept = int(re.search(r"^- Kept between steps: (\d) x the parameters", text, flags=re.M)[1])
    model = nn.Linear(6, 3)
    base = torch.optim.Adam(model.parameters())
    optimizer = create_optimizer(path.stem, base, model, steps_per_epoch=2, total_steps=9)
    for _step in range(9):
        optimizer.step(closure_of(model, 6), samples=torch.arange(8))
    vectors = [name for name in optimizer.vectors if name in optimizer.memory]
    assert bool(optimizer.perturbation._saved) + len(vectors) == kept
    assert all(f"`{name}`" in text for name in vectors)


@every_page
def test_the_index_says_the_same_cost(path):
    text, index = path.read_text(), (DOCS / "README.md").read_text()
    row = next(line for line in index.splitlines() if f"({path.stem}.md) |" in line)
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[0].startswith(f"[{text.splitlines()[0].removeprefix('# ')}]")
    cost = re.search(r"^- Passes per step: (.*)", text, flags=re.M)[1]
    assert cost.startswith(cells[3])
    assert f"- Kept between steps: {cells[4]} x" in text


@every_text
def test_the_tests_exist(path):
    mentioned = set(re.findall(r"`(test_\w+)`", path.read_text()))
    assert mentioned <= all_tests()
    if path in PAGES:
        assert mentioned


@every_page
def test_the_recorded_runs_are_those_of_the_method(path):
    text = path.read_text()
    expected = {name for name, case in golden.CASES.items() if case.method in named(text)}
    line = next((line for line in text.splitlines() if line.startswith("- Recorded runs")), "")
    assert {name for name in re.findall(r"`(\w[\w.]*)`", line) if "_" in name} == expected


def anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", path.read_text(), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@every_text
def test_links_resolve(path):
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", path.read_text()):
        file, _, anchor = target.partition("#")
        linked = path.parent / file if file else path
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def closure_of(model: nn.Module, features: int):
    x, y = torch.randn(8, features), torch.randint(0, 3, (8,))

    def closure(index=None, backward=True):
        at = slice(None) if index is None else index
        losses = nn.functional.cross_entropy(model(x[at]), y[at], reduction="none")
        if backward:
            losses.mean().backward()
        return losses.detach()

    return closure


class Names(dict):
    """The names of a snippet; the page's own closure is made as soon as there is a model."""

    def __missing__(self, name):
        if name != "closure":
            raise KeyError(name)
        return closure_of(self["model"], 10)


@every_text
def test_snippets_run(path):
    blocks = re.findall(r"^```python\n(.*?)^```", path.read_text(), flags=re.M | re.S)
    names = Names()
    for block in blocks:
        exec(compile(block, path.name, "exec"), names)
    if path in PAGES:
        assert type(names["optimizer"]) is class_of(path.read_text())
        assert names["loss"].isfinite()


@every_page
def test_the_command_line_is_understood(path):
    pytest.importorskip("hydra")  # `make test-oldest` has the library alone
    from sam_bench.config.compose import compose_specs

    words = re.search(r"`sam-bench run ([^`]+)`", path.read_text())[1].split()
    assert len(compose_specs(words)) == 1
    assert f"optimizer={path.stem}" in words

"""The layout that keeps the parts apart: who may import whom, and how long a file, a function, a YAML may be."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "sam_bench"
FILES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted((ROOT / "scripts").rglob("*.py"))

# A part -> the parts that it must not know, not even inside a function.
SWEEPING = ("cli", "__main__", "commands", "sweep", "display", "local", "slurm", "ray_cluster", "worker", "cells")
UPPER = (*SWEEPING, "run", "execute")
FORBIDDEN = {
    "datasets": ("models", "optim", "loggers", "results", "train", "evaluate", *UPPER),
    "models": ("datasets", "optim", "loggers", "results", "train", "evaluate", *UPPER),
    "optim": ("datasets", "models", "loggers", "results", "train", "evaluate", *UPPER),
    "loggers": ("datasets", "models", "optim", "train", *UPPER),
    "results": ("datasets", "models", "optim", "loggers", "train", "evaluate", *UPPER),
    "train": ("datasets", "models", "optim", "loggers", "results", *UPPER),
    "evaluate": ("datasets", "models", "optim", "loggers", "results", "train", *UPPER),
    "clock": ("datasets", "models", "optim", "loggers", "results", "train", "evaluate", *UPPER),
    "metrics": ("datasets", "models", "optim", "loggers", "results", "train", "evaluate", "clock", *UPPER),
    "run": SWEEPING,
    "execute": SWEEPING,
}
# A package from outside -> the only places that may import it.
ONLY_IN = {
    "hydra": ("run",),
    "wandb": ("loggers.wandb",),
    "tensorboard": ("loggers.tensorboard",),
    "torch.utils.tensorboard": ("loggers.tensorboard",),
    "submitit": ("slurm",),
    "ray": ("ray_cluster",),
    "rdkit": ("datasets",),
    "ogb": ("datasets",),
    "torch_geometric": ("datasets", "models"),
}
HEAVY = {
    *("torch", "torch_geometric", "numpy", "pandas", "scipy", "sklearn", "rdkit", "ogb", "hydra", "omegaconf"),
    *("matplotlib", "seaborn", "wandb", "pooch", "submitit", "rich", "tqdm"),
}
LIBRARY = {"torch", "numpy", "yaml"}  # what `pip install sam-bench` brings, without the extra [bench]


def module_name(path: Path) -> str:
    """`sam_bench/optim/sam.py` -> `optim.sam`; a package's `__init__` -> the package (`` for sam_bench itself)."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def statements(tree: ast.AST, lazy: bool):
    """All nodes below `tree`; without `lazy` those that run when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        yield node
        if lazy or not (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or is_type_checking(node)
        ):
            yield from statements(node, lazy)


def absolute(node: ast.ImportFrom, name: str) -> str:
    if not node.level:
        return node.module
    package = ["sam_bench", *name.split(".")] if name else ["sam_bench"]
    levels = node.level - (MODULES[name].name == "__init__.py")
    return ".".join([*package[: len(package) - levels], *([node.module] if node.module else [])])


@cache
def imported(name: str, lazy: bool) -> frozenset[str]:
    """Dotted names that a module imports: `torch.nn`, `sam_bench.metrics`, ..."""
    found = set()
    for node in statements(ast.parse(MODULES[name].read_text()), lazy):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{absolute(node, name)}.{alias.name}" for alias in node.names}
    return frozenset(found)


def inside(name: str, places) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def own(name: str, lazy: bool) -> set[str]:
    """Modules of this package that `name` imports."""
    parts = [target.split(".")[1:] for target in imported(name, lazy) if inside(target, ["sam_bench"])]
    prefixes = [[".".join(p[:n]) for n in range(len(p), -1, -1)] for p in parts]
    return {next(prefix for prefix in longest_first if prefix in MODULES) for longest_first in prefixes} - {name}


def outside(name: str, lazy: bool) -> set[str]:
    return {target for target in imported(name, lazy) if not inside(target, ["sam_bench"])}


def reached(name: str) -> set[str]:
    """`name` and all modules of this package that are imported with it."""
    todo, seen = [name], {name}
    while todo:
        new = own(todo.pop(), lazy=False) - seen
        seen |= new
        todo += new
    return seen


def loaded(name: str) -> dict[str, str]:
    """Top-level packages from outside that importing `name` loads, with the module that asks for each."""
    modules = reached(name) | {""}
    modules |= {package for m in modules for package in MODULES if inside(m, [package])}  # their __init__ runs too
    return {target.split(".")[0]: module for module in modules for target in outside(module, lazy=False)}


@pytest.mark.parametrize("part", FORBIDDEN)
def test_imports_run_one_way(part):
    members = [name for name in MODULES if inside(name, [part])]
    wrong = {f"{name} -> {t}" for name in members for t in own(name, lazy=True) if inside(t, FORBIDDEN[part])}
    assert not wrong


def test_no_import_cycle():
    cycles = {f"{a} <-> {b}" for a in MODULES for b in own(a, lazy=False) if a in reached(b)}
    assert not cycles


@pytest.mark.parametrize("package", ONLY_IN)
def test_outside_packages_stay_in_their_place(package):
    wrong = [
        name
        for name in MODULES
        if any(inside(t, [package]) for t in outside(name, lazy=True)) and not inside(name, ONLY_IN[package])
    ]
    assert not wrong, f"{package} may be imported in {ONLY_IN[package]} only"


def test_command_line_imports_nothing_heavy():
    for name in MODULES.keys() & {"cli", "__main__", ""}:
        assert not loaded(name).keys() & HEAVY, loaded(name)


def test_results_import_neither_torch_nor_hydra():
    for name in MODULES:
        if inside(name, ["results"]):
            assert not loaded(name).keys() & {"torch", "torch_geometric", "hydra", "omegaconf"}, loaded(name)


def test_optimizers_need_the_core_dependencies_only():
    import sys

    for name in MODULES:
        if inside(name, ["optim"]):
            assert loaded(name).keys() <= LIBRARY | sys.stdlib_module_names, loaded(name)


@pytest.mark.skipif("train" not in MODULES, reason="there is no loop")
def test_the_loop_names_no_method_and_no_dataset():
    known = {
        path.stem for group in ("optimizer", "dataset", "model") for path in (ROOT / "configs" / group).glob("*.yaml")
    }
    words = set()
    for node in ast.walk(ast.parse(MODULES["train"].read_text())):
        match node:
            case ast.Constant(value=str(word)) | ast.Name(id=word) | ast.Attribute(attr=word):
                words.add(word)
    assert not words & known


@pytest.mark.parametrize("path", [*FILES, *SCRIPTS], ids=lambda p: str(p.relative_to(ROOT)))
def test_size_of_files_and_functions(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {f.name: size for f in functions if (size := f.end_lineno - f.lineno + 1) > 40}
    assert not long, "a function has at most 40 lines"


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/**/*.yaml")), ids=lambda p: str(p.relative_to(ROOT)))
def test_size_of_yaml(path):
    assert len(path.read_text().splitlines()) <= 20

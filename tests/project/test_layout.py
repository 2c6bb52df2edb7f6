"""The layout that keeps the parts apart: who may import whom, and how long a file, a function, a YAML may be."""

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest
from support import ROOT

PACKAGE = ROOT / "sam_bench"
FILES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted((ROOT / "scripts").rglob("*.py"))

# A room -> all that it may import of this package, besides itself. Imports inside functions and under TYPE_CHECKING
# count too. docs/architecture.md draws this.
GROUND = ("errors", "api")
STORE = (*GROUND, "store")
CONFIG = (*STORE, "options", "config")
PARTS = ("optim", "models", "datasets", "loggers", "metrics")  # what YAML files name
TRAINING = (*CONFIG, *PARTS, "training")
USERS = ("sweeps", "sharpness", "speed")
LEAF = ("errors", "rooms", "metrics", "options", "store.disk", "store.places")
MAY_IMPORT = {
    "": ("training.lr_schedule",),
    "errors": (),
    "rooms": (),
    "record_types": (),
    "api": ("errors", "record_types"),
    "metrics": ("errors",),
    "store": GROUND,
    "options": ("errors",),  # the configuration and the components check by the same classes
    "config": (*STORE, "options"),
    "optim": ("errors", "options", "config.files"),
    "models": LEAF,
    "datasets": (*LEAF, "api"),
    "loggers": (*LEAF, "api", "store.index"),  # a logger is told records, whose type stands in api
    "training": (*CONFIG, *PARTS, ""),
    "sweeps": TRAINING,
    "sharpness": TRAINING,
    "speed": TRAINING,
    "contract": (*TRAINING, "speed"),
    "results": STORE,
    "commands": (*TRAINING, *USERS, "contract", "results"),
    "cli": ("errors", "commands", "store.places", "config.files", ""),
    "__main__": ("cli",),
}
# A package from outside -> the only places that may import it.
ONLY_IN = {
    "hydra": ("config",),
    "wandb": ("loggers.wandb",),
    "tensorboard": ("loggers.tensorboard",),
    "torch.utils.tensorboard": ("loggers.tensorboard",),
    "submitit": ("sweeps.engines.slurm",),
    "ray": ("sweeps.engines.ray",),
    "rdkit": ("datasets.molecules",),
    "ogb": ("datasets.molecules",),
    "torch_geometric": ("datasets.molecules", "models.molecules"),
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


def reached(name: str, lazy: bool = False) -> set[str]:
    """`name` and all modules of this package that are imported with it."""
    todo, seen = [name], {name}
    while todo:
        new = own(todo.pop(), lazy) - seen
        seen |= new
        todo += new
    return seen


def loaded(name: str) -> dict[str, str]:
    """Top-level packages from outside that importing `name` loads, with the module that asks for each."""
    modules = reached(name) | {""}
    modules |= {package for m in modules for package in MODULES if inside(m, [package])}  # their __init__ runs too
    return {target.split(".")[0]: module for module in modules for target in outside(module, lazy=False)}


def room_of(name: str) -> str:
    return name.partition(".")[0]


def test_every_module_has_its_room():
    assert {room_of(name) for name in MODULES} == MAY_IMPORT.keys()


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_run_one_way(room):
    members = [name for name in MODULES if room_of(name) == room]
    found = {(name, target) for name in members for target in own(name, lazy=True) if room_of(target) != room}
    wrong = {f"{name} -> {target}" for name, target in found if not allowed(target, MAY_IMPORT[room])}
    assert not wrong


def allowed(target: str, places: Iterable[str]) -> bool:
    return target in places or inside(target, filter(None, places))


def test_no_circle():
    """No module reaches itself, not even by imports inside functions or for type checkers."""
    circles = {f"{a} <-> {b}" for a in MODULES for b in own(a, lazy=True) if a in reached(b, lazy=True)}
    assert not circles


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


def test_the_loop_names_no_method_and_no_dataset():
    known = {
        path.stem for group in ("optimizer", "dataset", "model") for path in (ROOT / "configs" / group).glob("*.yaml")
    }
    words = set()
    for node in ast.walk(ast.parse(MODULES["training.loop"].read_text())):
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

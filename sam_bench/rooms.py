"""Short names of components in YAML files: `sam_bench.models.grover` is `sam_bench.models.molecules.grover`.

A `_target_` is part of a run's id, so a component keeps its short name when its file moves.
"""

import importlib
import importlib.util
from collections.abc import Callable
from types import ModuleType


def modules_of(package: str, *rooms: str) -> Callable[[str], ModuleType]:
    """The `__getattr__` of `package`: the module of that name in one of its rooms (sub-packages)."""

    def find(name: str) -> ModuleType:
        for room in rooms:
            if importlib.util.find_spec(f"{package}.{room}.{name}"):
                return importlib.import_module(f"{package}.{room}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find

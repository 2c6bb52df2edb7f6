"""Benchmark of sharpness-aware optimizers: do they really generalise better, and what do they cost?"""

from importlib import import_module
from types import ModuleType

__version__: str


def __getattr__(name: str) -> ModuleType | str:
    """`__version__`, looked up when it is asked for; and `sam_bench.schedule`, as the YAML files call the schedules.

    That name is part of every run's id.
    """
    if name == "schedule":
        return import_module("sam_bench.training.lr_schedule")
    if name == "__version__":
        metadata = import_module("importlib.metadata")
        try:
            return str(metadata.version("sam-bench"))
        except metadata.PackageNotFoundError:  # run from a source tree that was never installed
            return "0+unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

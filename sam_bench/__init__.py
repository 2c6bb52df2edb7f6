"""Benchmark of sharpness-aware optimizers: do they generalise better, and what do they cost?"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

try:
    __version__ = version("sam-bench")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> ModuleType:
    """`sam_bench.schedule`: what the YAML files call the learning-rate schedules, and so part of every run's id."""
    if name == "schedule":
        return import_module("sam_bench.training.lr_schedule")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

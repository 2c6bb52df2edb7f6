"""Which code, which versions and which hardware made a record."""

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_bench import __version__

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "numpy", "rdkit", "torch-geometric", "ogb", "scikit-learn", "hydra-core")


def _git(*words: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *words], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


@functools.cache
def code() -> dict[str, Any]:
    """The commit of the source tree, and whether files have changed since; None for an installed package."""
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top) != Path(__file__).parents[2]:
        return {"commit": None, "dirty": None}
    status = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": _git("rev-parse", "HEAD"), "dirty": bool(status)}


@functools.cache
def versions() -> dict[str, str]:
    """Versions of this package, of Python and of the libraries that can change a number."""
    found = {"sam_bench": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


_cells_on_gpu = 1


def share_gpu(cells: int) -> None:
    """Set how many cells share the GPU, for the records of this process."""
    global _cells_on_gpu
    _cells_on_gpu = cells


def hardware(device: "torch.device") -> dict[str, Any]:
    """The device that trained (a torch.device), its name, cores, threads and memory."""
    import psutil
    import torch

    from sam_bench.training import processes

    described = {
        "device": device.type,
        "name": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": processes.count(),
        "memory_bytes": psutil.virtual_memory().total,
    }
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        described |= {"name": card.name, "memory_bytes": card.total_memory, "cells_on_gpu": _cells_on_gpu}
    return described


def peak_memory_bytes(device: "torch.device") -> int:
    """The largest memory held: by torch on a GPU, by the whole process on a CPU."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    scale = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale

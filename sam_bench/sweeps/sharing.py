"""How many cells fit on a GPU at once, for `--per-gpu auto`."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam_bench.api import RunSpec
from sam_bench.sweeps.engines import local
from sam_bench.sweeps.estimate import readable

# What a process takes of a GPU before it has a tensor: its context, and the libraries' kernels and work space. An
# estimate; nvidia-smi shows what it is.
CONTEXT_BYTES = 2**30
# torch keeps freed memory in pieces; the records tell what was in use.
KEPT = 1.5
USED = 0.9  # of the memory that is free
MPS, MPS_CLIENTS = "nvidia-cuda-mps", 48  # its processes' names begin so; NVIDIA's limit for one GPU


@dataclass(frozen=True)
class Sharing:
    """The number of cells at once on each GPU, and the reason."""

    cells: int
    why: str


def cells_per_gpu(cells: Sequence[RunSpec], results: Path) -> Sharing:
    """As many of these cells as fit into the free memory of the fullest GPU, one core for each; else one.

    The need of a cell is the largest memory of finished runs on a GPU with its data set, model and batch size.
    """
    free = free_bytes()
    if not free:
        return Sharing(1, "nvidia-smi does not say how much memory is free")
    peaks = {}
    for cell in cells:
        if (key := _kind(cell.labels, cell.config)) not in peaks:
            peaks[key] = peak_bytes(results, cell)
        if peaks[key] is None:
            name = f"{cell.labels['dataset']}-{cell.labels['model']}"
            return Sharing(1, f"no finished run of {name} on a GPU yet, so its memory need is unknown")
    each = CONTEXT_BYTES + KEPT * max((peak for peak in peaks.values() if peak is not None), default=0)
    gib = f"{min(free) / 2**30:.1f} GiB are free and a cell needs about {each / 2**30:.1f}"
    cores = local.cores()
    limits = {gib: int(USED * min(free) / each), f"{len(free)} GPU(s) and {cores} cores": cores // len(free)}
    if mps_runs():
        limits["MPS serves no more"] = MPS_CLIENTS
    why, most = min(limits.items(), key=lambda limit: limit[1])
    return Sharing(max(1, most), f"{why}; {'MPS runs' if mps_runs() else 'without MPS they take turns'}")


def _kind(labels: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """What determines the memory of a run, besides method and precision."""
    parts = [labels["dataset"], labels["model"], config["model"], config["train"]["batch_size"]]
    return json.dumps(parts, sort_keys=True, default=str)


def free_bytes() -> list[int]:
    """Free memory of each GPU that this process may use; empty where nvidia-smi does not tell."""
    command = ["nvidia-smi", "--query-gpu=index,uuid,memory.free", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
        rows = [[word.strip() for word in line.split(",")] for line in told.splitlines() if line.strip()]
        free = {name: int(row[2]) * 2**20 for row in rows for name in row[:2]}
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return []
    names = local.gpus()
    return [free[name] for name in names] if names and all(name in free for name in names) else []


def peak_bytes(results: Path, cell: RunSpec) -> int | None:
    """The largest memory that a finished run like `cell` held on a GPU; None if there is no such run."""
    named = f"{cell.labels['dataset']}-{cell.labels['model']}-*[0-9a-f]"
    peaks = [
        int(record["peak_memory_bytes"] or 0)
        for record in readable(sorted((results / "runs").glob(named)))
        if record["provenance"].get("hardware", {}).get("device") == "cuda"
        and _kind(record["labels"], record["config"]) == _kind(cell.labels, cell.config)
    ]
    return max(peaks, default=None)


def mps_runs() -> bool:
    """Whether NVIDIA's Multi-Process Service runs here: then kernels of several processes run side by side."""
    if folder := os.environ.get("CUDA_MPS_PIPE_DIRECTORY"):
        return (Path(folder) / "control").exists()
    import psutil

    return any((process.info["name"] or "").startswith(MPS) for process in psutil.process_iter(["name"]))

"""The folders of data sets and records."""

import os
from pathlib import Path


def data_dir() -> Path:
    """Folder of the data sets: $SAM_BENCH_DATA, else a cache folder of the user."""
    if chosen := os.environ.get("SAM_BENCH_DATA"):
        return Path(chosen).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser().absolute() / "sam_bench"


def results_dir() -> Path:
    """Folder of the records: $SAM_BENCH_RESULTS, else ./results."""
    return Path(os.environ.get("SAM_BENCH_RESULTS") or "results").expanduser().absolute()

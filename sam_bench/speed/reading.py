"""Measure reading the molecules of a data set: seconds and memory, without and with the cache of molecules."""

import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from sam_bench.config import build
from sam_bench.speed.timing import show
from sam_bench.store import places


def reading(config: Mapping, name: str) -> dict[str, dict[str, float]]:
    """Seconds and memory for building the task, first without and then with the cache of molecules."""
    with tempfile.TemporaryDirectory() as folder:
        here, there = places.data_dir(), Path(folder)
        for entry in here.iterdir() if here.is_dir() else ():
            if entry.name != "cache":
                (there / entry.name).symlink_to(entry.absolute())
        found = {when: _alone(config, there) for when in ("first time", "from the cache")}
    rows = [
        [when, f"{s['features_seconds']:.2f}", f"{s['molecules'] / s['features_seconds']:,.0f}",
         f"{s['setup_seconds']:.2f}", f"{s['peak_bytes'] / 2**20:,.0f}", f"{s['workers_peak_bytes'] / 2**20:,.0f}"]
        for when, s in found.items()
    ]  # fmt: skip
    header = ["", "features, s", "molecules/s", "whole set-up, s", "peak MiB", "largest worker, MiB"]
    show(f"Reading {name}, split {config['dataset']['split']}, once each", header, rows)
    return found


def _alone(config: Mapping, data_dir: Path) -> dict[str, float]:
    """Run `set_up` in a fresh process, so that its memory is that of the data alone."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(set_up, dict(config), data_dir).result()


def set_up(config: Mapping, data_dir: Path) -> dict[str, float]:
    """Build the task and measure it. Needs its own process, because it patches a function of the loader."""
    from sam_bench.datasets.molecules import assemble

    seconds, featurize = [], assemble.featurize

    def watched(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = featurize(*args, **kwargs)
        seconds.append(time.perf_counter() - start)
        return result

    assemble.featurize = watched
    try:
        start = time.perf_counter()
        task = build.build_task(config, data_dir)
        whole = time.perf_counter() - start
    finally:
        assemble.featurize = featurize
    # children are counted when they have ended, and featurising ends its own
    own, workers = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    unit = 1 if sys.platform == "darwin" else 1024
    return {"features_seconds": sum(seconds), "setup_seconds": whole, "molecules": len(task.targets),
            "peak_bytes": own * unit, "workers_peak_bytes": workers * unit}  # fmt: skip

"""Runs that are stopped and taken up again, and what it means that two runs are the same."""

import json
from pathlib import Path

import pandas as pd
import torch

from sam_bench.training.life import Stopped, execute

TIMES = ["train_seconds"]


def stop_after(steps):
    """A `stop` that says yes at the given numbers of calls (it is called once after every step)."""
    calls = [0]

    def stop():
        calls[0] += 1
        return calls[0] in steps

    return stop


def run_to_the_end(cell, results, steps):
    stop, stops = stop_after(steps), 0
    while True:
        try:
            return execute(cell, results, stop=stop), stops
        except Stopped:
            stops += 1


def curve(results, cell):
    return pd.read_csv(results / "runs" / cell.run_id / "curve.csv").drop(columns=TIMES)


def assert_same_run(a: Path, b: Path, cell):
    records = [json.loads((folder / "runs" / cell.run_id / "record.json").read_text()) for folder in (a, b)]
    for key in ("metrics", "best_epoch", "steps", "samples", "grad_evals", "sam_fraction", "skipped_steps"):
        assert records[0][key] == records[1][key], key
    pd.testing.assert_frame_equal(curve(a, cell), curve(b, cell), check_exact=True)
    weights = [torch.load(folder / "runs" / cell.run_id / "best.pt", weights_only=True) for folder in (a, b)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
